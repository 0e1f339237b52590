"""Patterns in object coordinates: signed distance to the second colour, negative where it is."""

from __future__ import annotations

import numpy as np

from mocgen.training.world.shapes import Field

STRIPE = 0.46  # width; centred on 0
CHECK = 0.5  # side; corners meet at 0
DOT_SPACING, DOT_RADIUS = 0.66, 0.235
RING_MIDDLE, RING_SECTORS = 0.68, 8


def _alternating(x: Field, width: float) -> Field:
    """Bands of `width` along x, borders at multiples of it; positive from 0 to `width`."""
    phase = x / width
    return (0.5 - np.abs(phase % 1 - 0.5)) * width * np.where(np.floor(phase) % 2 == 0, 1, -1)


def _product(a: Field, b: Field) -> Field:
    """Distance to a checkerboard from the distances to its columns and rows."""
    return np.minimum(np.abs(a), np.abs(b)) * np.sign(a) * np.sign(b)


def _dots(u: Field, v: Field) -> Field:
    """Rows of dots, every other row shifted by half a spacing; a dot at 0."""
    height = DOT_SPACING * 0.87
    row = np.round(v / height)
    shifted = u / DOT_SPACING + 0.5 * (row % 2)
    return np.hypot((shifted - np.round(shifted)) * DOT_SPACING, v - row * height) - DOT_RADIUS


def _on_ring(pattern: str, u: Field, v: Field) -> Field:
    """Patterns that follow a ring: sectors, dots on its middle line, sectors of two rows."""
    angle, radius = np.arctan2(v, u) * RING_MIDDLE, np.hypot(u, v)
    sector = 2 * np.pi * RING_MIDDLE / RING_SECTORS
    if pattern == "dotted":
        along = (angle + sector / 2) % sector - sector / 2
        return np.hypot(along, radius - RING_MIDDLE) - 0.155
    sectors = _alternating(angle, sector)
    return sectors if pattern == "striped" else _product(sectors, radius - RING_MIDDLE)


def distance(pattern: str, shape: str, u: Field, v: Field) -> Field:
    """Signed distance to the parts in the second colour; patterns other than plain."""
    if shape == "ring":
        return _on_ring(pattern, u, v)
    if pattern == "striped":
        return _alternating(u + STRIPE / 2, STRIPE)
    if pattern == "checkered":
        return _product(_alternating(u, CHECK), _alternating(v, CHECK))
    return _dots(u, v)
