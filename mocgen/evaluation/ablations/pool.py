"""Encoded scenes of returns, one frame a shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.codec.embedded import to_unit_range
from mocgen.text.vocabulary import pad
from mocgen.training.world import render_shot

from ..scenes import ReturnScene, return_scene


@dataclass(frozen=True, kw_only=True)
class ReturnPool:
    """Scenes of S shots: seen, others, back."""

    scenes: tuple[ReturnScene, ...]
    latents: Tensor  # (scenes, S, 1, C, h, w)
    captions: Tensor  # (scenes, S, N) word ids


@torch.inference_mode()
def build_pool(
    base: NativeModel,
    *,
    seed: int,
    scenes: int,
    gap: int,
    held_out: bool,
    on_scene: Callable[[int, int], None],
) -> ReturnPool:
    """Draw, render and encode scenes; a function of its arguments alone."""
    made, latents, captions = [], [], []
    size, limit = base.codec.config.size, base.dit.config.caption_limit
    for number in range(scenes):
        on_scene(number, scenes)
        scene = return_scene(seed, number, gap, held_out=held_out)
        shots = (scene.seen, *scene.others, scene.back)
        frames = torch.stack([torch.from_numpy(render_shot(shot, frames=1, size=size)) for shot in shots])
        latents.append(base.codec.encode(to_unit_range(frames)).float())
        captions.append([base.vocabulary.read(shot.caption).ids[:limit] for shot in shots])
        made.append(scene)
    on_scene(scenes, scenes)
    longest = -(-max(len(ids) for row in captions for ids in row) // 8) * 8
    ids = torch.tensor([[pad(ids, longest) for ids in row] for row in captions])
    return ReturnPool(scenes=tuple(made), latents=torch.stack(latents), captions=ids)
