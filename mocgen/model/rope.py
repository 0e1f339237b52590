"""Rotary position embedding over the axes of a scene: shot (native model only), time, height, width."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rope_angles(positions: Tensor, axes: tuple[int, ...], *, theta: float = 100.0) -> Tensor:
    """Rotation angles of every token.

    positions: (L, A), one coordinate per axis. axes: the number of head dimensions that each axis
    turns (even). Angle of pair i of an axis with d dimensions: position · theta^(−2i/d)
    (Su et al., arXiv 2104.09864). Returns (L, sum(axes) / 2), fp32.
    """
    parts = []
    for axis, dims in enumerate(axes):
        frequencies = theta ** (
            -torch.arange(0, dims, 2, device=positions.device, dtype=torch.float32) / dims
        )
        parts.append(positions[:, axis, None].float() * frequencies)  # (L, dims/2)
    return torch.cat(parts, dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+D/2}) of x (B, L, H, D) by angles (L, D/2); keeps the dtype of x."""
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]  # (1, L, 1, D/2)
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1).to(x.dtype)


def exact_angles(positions: Tensor, axes: tuple[int, ...], *, theta: float = 10_000.0) -> Tensor:
    """Like `rope_angles`, computed in fp64 and reduced to one turn: exact at any distance.

    positions: (L, A) on the CPU. Returns (L, sum(axes) / 2), fp32.
    """
    parts = []
    for axis, dims in enumerate(axes):
        frequencies = theta ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
        parts.append(positions[:, axis, None].double() * frequencies)
    return torch.cat(parts, dim=-1).remainder(2 * math.pi).float()


def rotate_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair of neighbours (x_2i, x_2i+1) of x (B, L, H, D) by angles (L, D/2); keeps the dtype."""
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]  # (1, L, 1, D/2)
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
