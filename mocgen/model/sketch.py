"""Sketches: where the object of a shot is in every frame, decided from the caption before the picture.

While all of a shot is nearly noise, a denoiser can only predict the mean of all motions that the caption
allows, and has to settle on one of them frame by frame. A sketch is one of them: a few numbers per frame,
drawn first by a small network of its own. It tells the DiT, at every place of a latent, where in the object
this place lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DiTConfig
from .layers import CaptionEmbedding, NoiseLevelEmbedding

VALUES = 6  # of a frame: centre x and y and radius in frame widths, cosine and sine of the turn, stretch
RADIUS = 2  # which of them is the radius
MAPS = 9  # channels of what `sketch_maps` draws
MEANS = (0.5, 0.55, 0.2, 0.5, 0.0, 1.0)  # about which the values of sketches vary,
SPREADS = (0.15, 0.15, 0.05, 0.7, 0.7, 0.1)  # and how much


@dataclass(frozen=True, kw_only=True)
class ObjectPlaces:
    """Where the places of a frame lie in its object, as a sketch has it.

    (..., size, size) where no other shape is given.
    """

    known: Tensor  # (..., 1, 1) bool: whether the sketch says anything
    radius: Tensor  # (..., 1, 1) of the object, in frame widths
    right: Tensor  # from the object's centre, in radii; its stretch, but not its turn, is undone
    down: Tensor
    u: Tensor  # the same with its turn undone too
    v: Tensor
    square: Tensor  # u² + v²
    near: Tensor  # 1 in the object, 0 far from it: exp(−(ρ / 1.6)⁴), ρ² = u² + v²


def object_places(sketch: Tensor, size: int) -> ObjectPlaces:
    """The centres of size × size places, in the object of a sketch (..., VALUES)."""
    x, y, radius, cos, sin, stretch = sketch.float()[..., None, None].unbind(-3)  # (..., 1, 1) each
    known = radius > 0
    radius = radius.clamp(min=0.02)
    places = (torch.arange(size, device=sketch.device) + 0.5) / size
    right, down = torch.broadcast_tensors(
        (places - x) / radius, (places[:, None] - y) / (radius * stretch.clamp(min=0.2))
    )
    u, v = right * cos + down * sin, down * cos - right * sin
    square = u.square() + v.square()
    near = torch.exp(-(square / 1.6**2).square())
    return ObjectPlaces(
        known=known, radius=radius, right=right, down=down, u=u, v=v, square=square, near=near
    )


def sketch_maps(sketch: Tensor, size: int) -> Tensor:
    """What a sketch says at each place of a latent: (B, T, VALUES) → (B, T, MAPS, size, size).

    Coordinates (u, v) of a place are those of the object: its centre is the origin, its radius the unit, its
    turn and stretch undone. The channels are w, w·u, w·v, w·sin and w·cos of π·u and of π·v, w times ten
    radii, and a wider window; w = exp(−(ρ / 1.6)⁴), ρ² = u² + v². A radius of 0 says that nothing is known,
    and draws zeros.
    """
    at = object_places(sketch, size)  # (B, T, h, w)
    waves = [f(torch.pi * axis) for axis in (at.u, at.v) for f in (torch.sin, torch.cos)]
    maps = [torch.ones_like(at.u), at.u, at.v, *waves, 10 * at.radius.expand_as(at.u)]
    wide = torch.exp(-at.square / 9)
    return torch.stack([*(at.near * one for one in maps), wide], dim=2) * at.known[:, :, None]


class SketchBlock(nn.Module):
    """A residual hidden layer whose input is scaled and shifted by a condition; starts without effect."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        for layer in (self.film, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # (B, W) each
        scale, shift = self.film(condition).chunk(2, dim=-1)
        return x + self.down(F.silu(self.up(F.rms_norm(x, x.shape[-1:]) * (1 + scale) + shift)))


class SketchModel(nn.Module):
    """Predicts clean sketches from noisy ones and captions: a flow-matching model as small as its task.

    Sketches are seen and predicted in units of their spread, see `normalised`.
    """

    def __init__(self, config: DiTConfig) -> None:
        """Raises ValueError if the model of this configuration draws no sketches."""
        super().__init__()
        if config.sketch_frames is None:
            raise ValueError("the model draws no sketches: sketch_frames is not set")
        self.frames, width = config.sketch_frames, config.sketch_width
        self.captions = CaptionEmbedding(config.vocabulary, config.caption_limit, width)
        self.noise_level = NoiseLevelEmbedding(width)
        self.enter = nn.Linear(self.frames * VALUES, width)
        self.blocks = nn.ModuleList(SketchBlock(width) for _ in range(config.sketch_blocks))
        self.leave = nn.Linear(width, self.frames * VALUES)

    def forward(self, noisy: Tensor, t: Tensor, caption: Tensor) -> Tensor:
        """noisy: (B, T, VALUES) at noise level t (B,), 1 is clean; caption: (B, N) ids. Like noisy, clean."""
        condition = F.silu(self.captions(caption)[1] + self.noise_level(t))
        x = self.enter(noisy.to(condition.dtype).flatten(1))
        for block in self.blocks:
            x = block(x, condition)
        return self.leave(F.rms_norm(x, x.shape[-1:])).view(noisy.shape).float()


def normalised(sketch: Tensor) -> Tensor:
    """Sketches (..., VALUES) in units of their spread."""
    return (sketch - sketch.new_tensor(MEANS)) / sketch.new_tensor(SPREADS)


def denormalised(values: Tensor) -> Tensor:
    """The inverse of `normalised`; cosine and sine become those of an angle."""
    sketch = values * values.new_tensor(SPREADS) + values.new_tensor(MEANS)
    turn = F.normalize(sketch[..., 3:5], dim=-1)
    return torch.cat((sketch[..., :3], turn, sketch[..., 5:]), dim=-1)
