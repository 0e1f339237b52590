"""Building blocks of the DiT other than attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, AttentionContext


class NoiseLevelEmbedding(nn.Module):
    """Noise level t in [0, 1] (1 = clean) → vector: sinusoids in fp32 and a two-layer perceptron."""

    def __init__(self, width: int, frequencies: int = 64) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:  # (...) → (..., W)
        order = torch.arange(self.frequencies, device=t.device) / self.frequencies
        angles = 1000 * t[..., None].float() * torch.exp(-math.log(10_000) * order)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


class CaptionEmbedding(nn.Module):
    """Word ids → token vectors, and one order-aware vector for the whole caption. Id 0 is padding."""

    def __init__(self, vocabulary: int, limit: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(limit, width) * 0.02)
        self.pool = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.words.weight, std=0.5)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids: (B, N) → tokens (B, N, W), summary (B, W)."""
        placed = self.words(ids) + self.places[: ids.shape[1]]
        # the order of words enters the summary by gating each word with its place
        gated = self.words(ids) * (1 + 10 * self.places[: ids.shape[1]])
        present = (ids != 0).unsqueeze(-1)
        return placed, self.pool((gated * present).sum(1) / 3)


class CaptionReadout(nn.Module):
    """What a shot's caption has retrieved, as a part of the condition of its blocks; starts at zero.

    A caption that names a look tells it to every block through the condition. One that says "the hero"
    finds the look in earlier shots first, by attention; from here on it is told in the same way.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, captions: Sequence[slice]) -> Tensor:
        """x: (B, L, W) tokens; captions: the tokens of each of G captions. Returns (B, G, W)."""
        means = torch.stack([x[:, tokens].mean(dim=1) for tokens in captions], dim=1)
        return self.project(F.rms_norm(means, means.shape[-1:]))


class SwiGLU(nn.Module):
    """Feed-forward layer with a gated SiLU (Shazeer, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    """One transformer block with adaptive layer norm: shared modulation plus the block's own bias."""

    def __init__(self, width: int, heads: int, layer: int, *, rotated_routing: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads, layer, rotated_routing=rotated_routing)
        self.feed_forward = SwiGLU(width, int(width * 8 / 3) // 32 * 32)
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, shared: Tensor, segment: Tensor, context: AttentionContext) -> Tensor:
        """x: (B, L, W); shared: (B, G, 6, W) per segment; segment: (L,) of each token."""
        modulation = shared + self.modulation
        if modulation.shape[1] > 1:  # what is the same for all tokens need not be copied to each
            modulation = modulation.index_select(1, segment)  # (B, L, 6, W)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.to(x.dtype).unbind(2)
        normed = F.rms_norm(x, x.shape[-1:]) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(normed, context)
        normed = F.rms_norm(x, x.shape[-1:]) * (1 + scale2) + shift2
        return x + gate2 * self.feed_forward(normed)


class RefineBlock(nn.Module):
    """Residual convolutions whose middle is scaled and shifted by a condition vector (FiLM)."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (N, C, h, w); condition: (N, W)."""
        scale, shift = self.film(condition)[..., None, None].chunk(2, dim=1)
        return x + self.conv2(F.silu(self.conv1(F.silu(x)) * (1 + scale) + shift))


class StemBlock(nn.Module):
    """Residual convolutions, the first of which may look further."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w)
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Stem(nn.Module):
    """Convolutions over whole frames of latents: they see shapes and patterns that patches cut apart."""

    def __init__(self, latent_channels: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(StemBlock(channels, 1 + number % 2) for number in range(blocks))

    def forward(self, latents: Tensor) -> Tensor:
        """(B, T, C, h, w) → (B, T, channels, h, w)."""
        x = self.enter(latents.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return F.silu(x).unflatten(0, latents.shape[:2])


class Refine(nn.Module):
    """Convolutional refinement of a predicted frame, conditioned on noise level and caption.

    Sees the noisy latents, the transformer's prediction and what is known of the object, if anything: the
    maps of the sketch, and what is painted after it. Adds a correction that starts at zero.
    """

    def __init__(
        self, latent_channels: int, channels: int, blocks: int, condition: int, *, known: int
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * latent_channels + known, channels, 3, padding=1)
        self.blocks = nn.ModuleList(RefineBlock(channels, condition) for _ in range(blocks))
        self.leave = nn.Conv2d(channels, latent_channels, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, seen: Tensor, predicted: Tensor, condition: Tensor) -> Tensor:
        """seen: (B, T, 2·C + known, h, w); predicted: (B, T, C, h, w); condition: (B, W). Like predicted."""
        x = self.enter(seen.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x, condition.repeat_interleave(seen.shape[1], dim=0))
        return predicted + self.leave(F.silu(x)).view(predicted.shape)
