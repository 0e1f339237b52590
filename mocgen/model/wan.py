"""The Wan diffusion transformer with routed self-attention: Wan2.1-T2V, Wan2.2-TI2V, SkyReels-V2.

The architecture and the names of its parameters are those of `WanTransformer3DModel` and
`SkyReelsV2Transformer3DModel` in diffusers; dense attention gives their outputs. What is different: any
number of shots stand in one sequence, each with its own text and a noise level for every latent frame, and
self-attention retrieves contexts, from a memory of earlier shots too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mocgen_kernels import ContextLayout

from .attention import AttentionContext, Recorder, Routing
from .contexts import layout_after
from .memory import ContextMemory
from .rope import exact_angles
from .wan_config import WanConfig
from .wan_contexts import WanGrid, lay_out, make_grid, token_positions
from .wan_layers import ConditionEmbedding, FeedForward, WanBlock, layer_norm

FP32 = ("time_embedder", "scale_shift_table", "norm2")  # parts whose weights stay in fp32, as in diffusers


@dataclass(frozen=True, kw_only=True)
class WanShot:
    """One shot as the model sees it. B is the batch, T its latent frames."""

    index: int  # place in the scene
    start: int  # position in time of its first latent frame
    text: Tensor  # (B, N, text_dim) embeddings of its caption
    latents: Tensor  # (B, T, C, h, w)
    t: Tensor  # (B, T) time step of every latent frame: 1000 is noise, 0 is clean
    wanted: bool = True  # whether a prediction is asked for


class WanDiT(nn.Module):
    """Predicts the velocity (noise − clean latents) of every shot."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        size = (1, patch, patch)
        self.patch_embedding = nn.Conv3d(config.in_channels, width, kernel_size=size, stride=size)
        self.condition_embedder = ConditionEmbedding(config)
        self.blocks = nn.ModuleList(WanBlock(config, layer) for layer in range(config.num_layers))
        self.norm_out = nn.LayerNorm(width, config.eps, elementwise_affine=False)
        self.proj_out = nn.Linear(width, config.out_channels * patch**2)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        if config.fps_embedding:
            self.fps_embedding = nn.Embedding(2, width)  # 16 frames a second, any other rate
            self.fps_projection = FeedForward(width, width, 6 * width, nn.functional.silu)

    def forward(
        self,
        shots: Sequence[WanShot],
        *,
        routing: Routing,
        fps: float = 24.0,
        memory: ContextMemory | None = None,
        recorder: Recorder | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Velocity of each wanted shot, (B, T, C, h, w) each.

        fps: of the video, for models that take it.
        With a memory B is 1, and `memory.commit` of the returned layout is the caller's choice.
        """
        return self.run(
            shots,
            routing=routing,
            fps=fps,
            memory=memory,
            recorder=recorder,
            generator=generator,
        )[0]

    def run(
        self,
        shots: Sequence[WanShot],
        *,
        routing: Routing,
        fps: float = 24.0,
        memory: ContextMemory | None = None,
        recorder: Recorder | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[list[Tensor], ContextLayout]:
        """Like `forward`, and the layout of what was run."""
        config, cut = self.config, routing.cut
        latents = torch.cat([shot.latents for shot in shots], dim=1)  # (B, F, C, h, w)
        device, dtype = latents.device, self.patch_embedding.weight.dtype
        grid = make_grid(latents.shape[3] // config.patch, latents.shape[4] // config.patch, cut)
        frames = [shot.latents.shape[1] for shot in shots]
        layout = lay_out([(shot.index, shot.latents.shape[1]) for shot in shots], grid, cut)
        times = [shot.start + torch.arange(shot.latents.shape[1]) for shot in shots]
        context = AttentionContext(
            layout=layout_after(memory.layout if memory else None, layout),
            angles=exact_angles(token_positions(torch.cat(times), grid), config.rope_axes).to(device),
            routing=routing,
            memory=memory,
            recorder=recorder,
            generator=generator,
        )
        x = self.patch_embedding(latents.to(dtype).transpose(1, 2))  # (B, W, F, rows, columns)
        order = grid.order.to(device)
        x = x.flatten(3).permute(0, 2, 3, 1)[:, :, order].contiguous()  # (B, F, P, W)
        embedding, modulation = self.condition_embedder(torch.cat([shot.t for shot in shots], dim=1), dtype)
        if config.fps_embedding:
            rate = torch.tensor(0 if fps == 16 else 1, device=device)
            modulation = modulation + self.fps_projection(self.fps_embedding(rate)).unflatten(-1, (6, -1))
        texts = [self.condition_embedder.text(shot.text) for shot in shots]
        for block in self.blocks:
            x = block(x, modulation, texts, frames, context)
        outputs = [
            self._finish(part, condition, grid, order)
            for shot, part, condition in zip(
                shots, x.split(frames, dim=1), embedding.split(frames, dim=1), strict=True
            )
            if shot.wanted
        ]
        return outputs, layout

    def _finish(self, x: Tensor, embedding: Tensor, grid: WanGrid, order: Tensor) -> Tensor:
        """Tokens (B, T, P, W) and time embedding (B, T, W) → velocity (B, T, C, h, w)."""
        table = self.scale_shift_table.float()[:, None] + embedding.float()[:, :, None]  # (B, T, 2, W)
        shift, scale = table[:, :, :, None].unbind(2)
        tokens = self.proj_out((layer_norm(x, self.norm_out) * (1 + scale) + shift).to(x.dtype))
        rows = torch.empty_like(tokens)
        rows[:, :, order] = tokens
        patch = self.config.patch
        split = rows.view(*rows.shape[:2], grid.rows, grid.columns, patch, patch, -1)  # b t y x p q c
        merged = split.permute(0, 1, 6, 2, 4, 3, 5)  # b t c y p x q
        return merged.flatten(5, 6).flatten(3, 4)
