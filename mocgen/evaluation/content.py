"""How well an object's colours explain the pixels that it covers, whatever its pattern."""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen.training.world import COLORS, SHAPES

from .templates import COLOR_SETS, Templates, cut_out, palette

SHADINGS = (-0.22, 0.0, 0.22)  # darker and lighter sides of an object


def content_gains(features: Tensor, windows: Tensor, views: Tensor, bank: Templates) -> Tensor:
    """Gain of colours alone, summed over frames: (ways, shapes, looks of a shape).

    features: (T, 4, H, W) colours, and distance to the place less |colour|²; windows: (T, ways · shapes, 3)
    where each shape lies in each way to turn; views: (ways, T).
    """
    cut = cut_out(features, windows).unflatten(1, (len(views), len(SHAPES)))  # (T, ways, shapes, 4, P)
    colors = cut[..., :3, :]
    behind = cut[..., 3, :] + colors.square().sum(-2)  # (T, ways, shapes, P)
    apart = torch.stack([_distance(colors, color) for color in COLORS])  # (colours, T, ways, shapes, P)
    own = bank.own[views].movedim(0, 1)  # (T, ways, shapes, P)
    weight = own * windows[..., 2].unflatten(1, (len(views), len(SHAPES)))[..., None].square()
    gains = []
    for first, second in COLOR_SETS:
        nearest = torch.minimum(apart[COLORS.index(first)], apart[COLORS.index(second)])
        gains.append(((behind - nearest) * weight).sum((0, 3)))  # (ways, shapes)
    return torch.stack(gains, dim=-1)[..., bank.color_sets]


def _distance(colors: Tensor, name: str) -> Tensor:
    """Squared distance of pixels (..., 3, P) to a colour in light and shade: (..., P)."""
    color = palette(name)[:, None]
    shades = [color + s * ((1 - color) if s > 0 else color) for s in SHADINGS]
    return torch.stack([(colors - shade).square().sum(-2) for shade in shades]).amin(0)
