"""How far pixels are from anything that a place can look like."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mocgen.training.world import PLACES, places

VARIANTS = 48  # of each place; half are mirrored
NEAREST = 6  # of them explain one shot
SHADES = (1.0, 0.82, 0.66)  # by a shadow on the ground
SHADOW_REACH = 0.1  # above and below the ground, in frame heights
CAP = 0.05  # squared distance from which a pixel counts as something else


@lru_cache(maxsize=4)
def _variants(size: int) -> dict[str, Tensor]:
    """(N, 3, size, size) of each place."""
    return {
        place: torch.stack(
            [torch.from_numpy(places.paint(place, seed, size).copy()) for seed in range(VARIANTS)]
        ).movedim(-1, 1)
        for place in PLACES
    }


def backdrop_distance(frames: Tensor, place: str) -> Tensor:
    """Squared colour distance of each pixel to the nearest variants of a place, shadows allowed.

    frames: (T, 3, H, W) in 0..1. Returns (T, H, W).
    """
    size = frames.shape[-1]
    variants = _variants(size)[place]
    still = frames.median(dim=0).values  # (3, H, W): a moving object vanishes from it
    misfit = (variants - still).square().sum(1).clamp(max=CAP).mean((1, 2))  # (N,)
    near = variants[misfit.topk(NEAREST, largest=False).indices]
    distance = _nearest(frames, near)
    if place != "outer space":
        rows = torch.arange(size) / size - places.GROUND[place]
        band = (rows.abs() < SHADOW_REACH)[:, None]
        for shade in SHADES[1:]:
            distance = torch.where(band, torch.minimum(distance, _nearest(frames, near * shade)), distance)
    return distance


def _nearest(frames: Tensor, variants: Tensor) -> Tensor:  # (T, H, W)
    return torch.stack([(frames - v).square().sum(1) for v in variants]).amin(0)


def read_place(frames: Tensor) -> str:
    """The place whose variants explain most of a shot: (T, 3, H, W) in 0..1."""
    misfits = {place: float(backdrop_distance(frames, place).clamp(max=CAP).mean()) for place in PLACES}
    return min(misfits, key=lambda place: misfits[place])
