"""The native MoC DiT: captions and shots in one sequence, a noise level per shot, routed attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionContext, Recorder, Routing
from .config import DiTConfig
from .contexts import PackedScene, ShotShape, layout_after, pack_scene
from .layers import Block, CaptionEmbedding, CaptionReadout, NoiseLevelEmbedding, Refine, Stem
from .memory import ContextMemory
from .paint import Painter
from .patches import from_patches, to_patches
from .rope import rope_angles
from .sketch import MAPS, SketchModel, sketch_maps


@dataclass(frozen=True, kw_only=True)
class NoisyShot:
    """One shot as the model sees it. B is the batch."""

    index: int  # place in the scene; gaps are allowed
    caption: Tensor  # (B, N) word ids, padded with 0
    latents: Tensor  # (B, T, C, h, w) at noise level t
    t: Tensor  # (B,) noise level: 0 is noise, 1 is clean
    wanted: tuple[int, ...] | None = None  # frames to predict (None: all); the others save time
    sketch: Tensor | None = None  # (B, T, 6) where the object is, for models that are told; see `sketch_maps`

    def to(self, device: torch.device) -> NoisyShot:
        """The shot on a device."""
        caption, latents, t = (x.to(device) for x in (self.caption, self.latents, self.t))
        sketch = None if self.sketch is None else self.sketch.to(device)
        return replace(self, caption=caption, latents=latents, t=t, sketch=sketch)


class MoCDiT(nn.Module):
    """Predicts clean latents of every shot from noisy ones, captions and the memory of earlier shots."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.noise_level = NoiseLevelEmbedding(width)
        self.captions = CaptionEmbedding(config.vocabulary, config.caption_limit, width)
        self.patch_in = nn.Linear(config.token_dim, width)
        self.kinds = nn.Parameter(torch.randn(2, width) * 0.02)  # text, video
        self.places = nn.Parameter(torch.randn(config.grid**2, width) * 0.02)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, layer, rotated_routing=config.rotated_routing)
            for layer in range(config.depth)
        )
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.patch_out = nn.Linear(width, config.token_dim)
        self.refine = Refine(
            config.latent_channels,
            config.refine_width,
            config.refine_blocks,
            width,
            known=bool(config.sketch_frames) * MAPS + bool(config.paint_width) * config.latent_channels,
        )
        if config.stem_width:
            self.stem = Stem(config.latent_channels, config.stem_width, config.stem_blocks)
            self.stem_in = nn.Linear(config.stem_width * config.patch**2 * config.patch_frames, width)
            nn.init.zeros_(self.stem_in.weight)
            nn.init.zeros_(self.stem_in.bias)
        if config.readout:
            self.readout = CaptionReadout(width)
        if config.sketch_frames:
            self.sketcher = SketchModel(config)
            self.sketch_in = nn.Linear(MAPS * config.cell, width)
            nn.init.zeros_(self.sketch_in.weight)
            nn.init.zeros_(self.sketch_in.bias)
        if config.paint_width:
            self.painter = Painter(config)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.patch_out.bias)
        modulation = self.modulation[1]
        assert isinstance(modulation, nn.Linear)
        nn.init.normal_(modulation.weight, std=0.01)
        nn.init.zeros_(modulation.bias)

    def forward(
        self,
        shots: Sequence[NoisyShot],
        *,
        prompt: Tensor | None = None,
        routing: Routing,
        memory: ContextMemory | None = None,
        recorder: Recorder | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Predicted clean latents of each shot, (B, T, C, h, w) each; T counts the wanted frames.

        prompt: (B, P) word ids of the global prompt, given with the scene's first shots only: later
        ones find it in the memory. With a memory B is 1, and `memory.commit` of the returned pack is
        the caller's choice.
        """
        return self.run(
            shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
        )[0]

    def run(
        self,
        shots: Sequence[NoisyShot],
        *,
        prompt: Tensor | None,
        routing: Routing,
        memory: ContextMemory | None = None,
        recorder: Recorder | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[list[Tensor], PackedScene]:
        """Like `forward`, and the packed layout of what was run."""
        scene = self.pack(shots, prompt)
        device = shots[0].latents.device
        context = AttentionContext(
            layout=layout_after(memory.layout if memory else None, scene),
            angles=rope_angles(scene.positions.to(device), self.config.rope_axes),
            routing=routing,
            memory=memory,
            recorder=recorder,
            generator=generator,
        )
        maps = [self._maps(shot) for shot in shots]
        x, told = self._embed(shots, maps, prompt)  # (B, L, W), (B, G, W)
        condition = told
        segment = scene.segment.to(device)
        for number, block in enumerate(self.blocks):
            if self.config.readout and number >= self.config.readout:
                condition = told + self.readout(x, scene.text)
            shared = self.modulation(condition).unflatten(-1, (6, -1))  # (B, G, 6, W)
            x = block(x, shared, segment, context)
        return self._pictures(x, condition, scene, shots, maps), scene

    def _pictures(
        self,
        x: Tensor,
        condition: Tensor,
        scene: PackedScene,
        shots: Sequence[NoisyShot],
        maps: Sequence[Tensor],
    ) -> list[Tensor]:
        """Tokens (B, L, W) behind the last block → what each shot wants, under its condition (B, G, W)."""
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)  # (B, G, W) each
        outputs = list[Tensor]()
        for number, (shot, drawn) in enumerate(
            zip(shots, maps, strict=True), start=len(scene.video) - len(shots)
        ):
            tokens = F.rms_norm(x[:, scene.video[number]], x.shape[-1:])
            tokens = tokens * (1 + scale[:, number, None]) + shift[:, number, None]
            predicted = from_patches(self.patch_out(tokens), self.config)
            frames = list(range(predicted.shape[1]) if shot.wanted is None else shot.wanted)
            own = condition[:, number]
            parts = [shot.latents[:, frames], predicted[:, frames], drawn[:, frames]]
            if self.config.paint_width:
                parts.append(self._painted(shot, frames, own))
            seen = torch.cat([part.to(predicted.dtype) for part in parts], dim=2)
            outputs.append(self.refine(seen, predicted[:, frames], own))
        return outputs

    def _painted(self, shot: NoisyShot, frames: Sequence[int], condition: Tensor) -> Tensor:
        """The object of a shot in some of its frames, zeros without a sketch: (B, frames, C, h, w)."""
        if shot.sketch is None or not frames:
            return torch.zeros_like(shot.latents[:, frames])
        return self.painter(shot.sketch[:, frames], condition)

    def _maps(self, shot: NoisyShot) -> Tensor:
        """What the sketch of a shot says, zeros if it has none: (B, T, MAPS or 0, h, w)."""
        if self.config.sketch_frames and shot.sketch is not None:
            return sketch_maps(shot.sketch, self.config.latent_size)
        channels = MAPS if self.config.sketch_frames else 0
        return shot.latents.new_zeros(*shot.latents.shape[:2], channels, *shot.latents.shape[3:])

    def pack(self, shots: Sequence[NoisyShot], prompt: Tensor | None) -> PackedScene:
        """The layout of a global prompt (if any) and these shots."""
        shapes = [
            ShotShape(
                index=shot.index,
                caption_tokens=shot.caption.shape[1],
                groups=shot.latents.shape[1] // self.config.patch_frames,
            )
            for shot in shots
        ]
        return pack_scene(0 if prompt is None else prompt.shape[1], shapes, grid=self.config.grid)

    def _embed(
        self, shots: Sequence[NoisyShot], maps: Sequence[Tensor], prompt: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, W) and the condition of each segment: noise level and caption, (B, G, W)."""
        tokens: list[Tensor] = []
        conditions: list[Tensor] = []
        if prompt is not None:
            words, summary = self.captions(prompt)
            tokens.append(words + self.kinds[0])
            conditions.append(self.noise_level(torch.ones_like(shots[0].t)) + summary)
        for shot, drawn in zip(shots, maps, strict=True):
            words, summary = self.captions(shot.caption)
            latents = shot.latents.to(self.patch_in.weight.dtype)
            patches = self.patch_in(to_patches(latents, self.config))
            if self.config.stem_width:
                patches = patches + self.stem_in(to_patches(self.stem(latents), self.config))
            if self.config.sketch_frames:
                patches = patches + self.sketch_in(to_patches(drawn.to(latents.dtype), self.config))
            places = self.places.repeat(patches.shape[1] // len(self.places), 1)
            tokens += [words + self.kinds[0], patches + places + self.kinds[1]]
            conditions.append(self.noise_level(shot.t) + summary)
        return torch.cat(tokens, dim=1), torch.stack(conditions, dim=1)
