"""Paints the object of a shot: what it looks like at every place that its sketch says it covers.

A latent covers many pixels and the transformer's tokens cover several latents, so that a turned star is
another combination of them for every angle. In its own coordinates it is always the same star: here a small
network looks at one place of the object at a time, several to a latent, as compositional pattern-producing
networks do (Stanley, Genetic Programming and Evolvable Machines 8, 2007). What the object looks like it is
told by the condition, which knows what the shot's caption says and what it has retrieved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DiTConfig
from .sketch import RADIUS, object_places

WAVES = 3  # waves of cos and sin along u and v, half as many to a radius
SECTORS = 8  # most waves round the centre
FEATURES = 6 + 4 * WAVES + 2 * SECTORS


def place_features(sketch: Tensor, size: int) -> Tensor:
    """What the painter sees of size × size places: (N, VALUES) → (N, FEATURES, size, size).

    Places in the object before and after its turn is undone, their distance from its centre, and Fourier
    features (Tancik et al., arXiv 2006.10739) of the latter along both axes and round the centre.
    """
    at = object_places(sketch, size)
    seen = [torch.ones_like(at.u), at.u, at.v, at.square.sqrt(), at.right, at.down]
    for wave in range(1, WAVES + 1):
        seen += [f(torch.pi * wave * axis) for axis in (at.u, at.v) for f in (torch.sin, torch.cos)]
    angle, off_centre = torch.atan2(at.v, at.u), at.square / (at.square + 0.05)
    for wave in range(1, SECTORS + 1):
        seen += [off_centre * f(wave * angle) for f in (torch.sin, torch.cos)]
    return torch.stack([at.near * one for one in seen], dim=1)


class PaintBlock(nn.Module):
    """A residual hidden layer at each place by itself, scaled and shifted by a condition."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.film = nn.Linear(condition, 2 * width)
        self.up = nn.Conv2d(width, width, 1)
        self.down = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (N, C, h, w); condition: (N, W)."""
        scale, shift = self.film(condition)[..., None, None].chunk(2, dim=1)
        return x + self.down(F.silu(self.up(F.silu(x)) * (1 + scale) + shift))


class Painter(nn.Module):
    """Latents of the object from its sketch and a condition; what lies around it is anybody's guess."""

    def __init__(self, config: DiTConfig) -> None:
        """Raises ValueError if the model of this configuration paints no objects, or draws no sketches."""
        super().__init__()
        if config.paint_width is None:
            raise ValueError("the model paints no objects: paint_width is not set")
        if config.sketch_frames is None:
            raise ValueError("a model that paints objects needs sketches of them: set sketch_frames")
        width, scale = config.paint_width, config.paint_scale
        self.places = config.latent_size * scale
        self.enter = nn.Conv2d(FEATURES, width, 1)
        self.blocks = nn.ModuleList(PaintBlock(width, config.width) for _ in range(config.paint_blocks))
        self.gather = nn.Conv2d(width, width, scale, stride=scale)  # the places of each latent
        self.leave = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, sketch: Tensor, condition: Tensor) -> Tensor:
        """sketch: (B, T, VALUES); condition: (B, W) → (B, T, C, h, w), zeros where the radius is 0."""
        frames = sketch.shape[1]
        seen = place_features(sketch.flatten(0, 1), self.places).to(condition.dtype)
        x = self.enter(seen.contiguous(memory_format=torch.channels_last))
        condition = condition.repeat_interleave(frames, dim=0)
        for block in self.blocks:
            x = block(x, condition)
        painted = self.leave(F.silu(self.gather(F.silu(x)))).unflatten(0, (-1, frames))
        return painted * (sketch[..., RADIUS, None, None, None] > 0)
