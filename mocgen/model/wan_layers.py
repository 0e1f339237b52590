"""Building blocks of the Wan diffusion transformer; parameters are named as in diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionContext, attend
from .rope import rotate_pairs
from .wan_config import WanConfig


class TwoLayers(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, inputs: int, width: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class Projected(nn.Module):
    """A linear layer and what follows it, under the name `proj`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class FeedForward(nn.Module):
    """Linear, activation, linear, named as the feed-forward layers of diffusers."""

    def __init__(self, width: int, hidden: int, outputs: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = nn.ModuleList((Projected(width, hidden), nn.Identity(), nn.Linear(hidden, outputs)))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.activation(self.net[0](x)))


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh approximation."""
    return F.gelu(x, approximate="tanh")


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer norm in fp32, whatever the dtype of x and of the weights."""
    weight, bias = (None if p is None else p.float() for p in (norm.weight, norm.bias))
    return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)


class ConditionEmbedding(nn.Module):
    """Time steps and text embeddings → vectors of the model's width."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.frequencies = config.freq_dim // 2
        self.time_embedder = TwoLayers(config.freq_dim, config.width, F.silu)
        self.time_proj = nn.Linear(config.width, 6 * config.width)
        self.text_embedder = TwoLayers(config.text_dim, config.width, gelu)

    def forward(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Time steps t (B, F) from 0 (clean) to 1000 → embedding (B, F, W), modulation (B, F, 6, W)."""
        order = torch.arange(self.frequencies, device=t.device, dtype=torch.float64) / self.frequencies
        angles = t[..., None].double() * torch.exp(-math.log(10_000) * order)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        embedding = self.time_embedder(waves.to(self.time_embedder.linear_1.weight.dtype)).to(dtype)
        return embedding, self.time_proj(F.silu(embedding)).unflatten(-1, (6, -1))

    def text(self, text: Tensor) -> Tensor:
        """Embeddings of a text encoder (B, N, text_dim) → (B, N, W)."""
        return self.text_embedder(text.to(self.text_embedder.linear_1.weight.dtype))


class WanAttention(nn.Module):
    """Projections and QK normalisation (over all heads together) of self- or cross-attention."""

    def __init__(self, config: WanConfig, layer: int) -> None:
        super().__init__()
        width = config.width
        self.heads, self.layer = config.num_attention_heads, layer
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList((nn.Linear(width, width),))
        self.norm_q, self.norm_k = (nn.RMSNorm(width, eps=config.eps) for _ in range(2))

    def to_contexts(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Self-attention over routed contexts: (B, L, W) → (B, L, W)."""
        q, k, v = self._project(x, x)
        q, k = rotate_pairs(q, context.angles), rotate_pairs(k, context.angles)
        attended = attend(self.layer, q, k, v, context, asking=q, asked=k, training=self.training)
        return self.to_out[0](attended.flatten(2))

    def to_text(self, x: Tensor, text: Tensor) -> Tensor:
        """Cross-attention of x (B, L, W) to text (B, N, W)."""
        q, k, v = (part.transpose(1, 2) for part in self._project(x, text))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # (B, L, H, D) each
        q, k, v = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(source)), self.to_v(source)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        return q, k, v


class WanBlock(nn.Module):
    """Self-attention over contexts, cross-attention to each shot's text, feed-forward."""

    def __init__(self, config: WanConfig, layer: int) -> None:
        super().__init__()
        width, eps = config.width, config.eps
        self.norm1 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.attn1 = WanAttention(config, layer)
        self.attn2 = WanAttention(config, layer)
        self.norm2 = nn.LayerNorm(width, eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(width, config.ffn_dim, width, gelu)
        self.norm3 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def forward(
        self, x: Tensor, modulation: Tensor, texts: Sequence[Tensor], frames: Sequence[int],
        context: AttentionContext,
    ) -> Tensor:  # fmt: skip
        """x: (B, F, P, W), P tokens in each of F frames; modulation: (B, F, 6, W).

        texts: (B, N, W) of each shot; frames: how many frames each shot has, F in all.
        """
        table = self.scale_shift_table.float()[:, None] + modulation.float()  # (B, F, 6, W)
        shift1, scale1, gate1, shift2, scale2, gate2 = table[:, :, :, None].unbind(2)  # (B, F, 1, W) each
        shape = x.shape[1:3]
        normed = (layer_norm(x, self.norm1) * (1 + scale1) + shift1).to(x.dtype)
        attended = self.attn1.to_contexts(normed.flatten(1, 2), context).unflatten(1, shape)
        x = (x.float() + attended * gate1).to(x.dtype)
        normed = layer_norm(x, self.norm2).to(x.dtype) if isinstance(self.norm2, nn.LayerNorm) else x
        shots = zip(normed.split(list(frames), dim=1), texts, strict=True)
        read = torch.cat([self.attn2.to_text(shot.flatten(1, 2), text) for shot, text in shots], dim=1)
        x = x + read.unflatten(1, shape)
        normed = (layer_norm(x, self.norm3) * (1 + scale2) + shift2).to(x.dtype)
        return (x.float() + self.ffn(normed).float() * gate2).to(x.dtype)
