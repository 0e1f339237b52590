"""Signed distances of the six shapes, in object coordinates: centre 0, y down, radius about 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]

STAR_POINTS = 5
STAR_INNER = 0.47  # inner radius / outer radius
ROUNDING = {"cube": 0.12, "triangle": 0.1, "diamond": 0.08, "star": 0.03}
TALLEST = 1.16  # largest radius of any shape, in object units
FOOT = {
    "ball": 1.0,
    "cube": 0.86,
    "triangle": 0.58,
    "diamond": 1.06,
    "star": 0.9,
    "ring": 1.0,
}  # lowest point, upright
GLINT = {  # centre of the highlight
    "ball": (-0.38, -0.42),
    "cube": (-0.48, -0.5),
    "triangle": (-0.1, -0.5),
    "diamond": (-0.18, -0.45),
    "star": (-0.1, -0.44),
    "ring": (-0.48, -0.48),
}


def _segment(u: Field, v: Field, a: tuple[float, float], b: tuple[float, float]) -> Field:
    """Signed distance to the segment a → b; negative on the side of the centre."""
    eu, ev = b[0] - a[0], b[1] - a[1]
    pu, pv = u - a[0], v - a[1]
    along = np.clip((pu * eu + pv * ev) / (eu * eu + ev * ev), 0, 1)
    distance = np.hypot(pu - eu * along, pv - ev * along)
    return np.copysign(distance, ev * pu - eu * pv)


def _star_polygon(u: Field, v: Field, points: int, outer: float, inner: float) -> Field:
    """A regular star, one point up: fold the plane into half a sector, then one edge is left."""
    half = np.pi / points
    angle = np.arctan2(u, -v)  # 0: up
    angle = np.abs((angle + half) % (2 * half) - half)
    radius = np.hypot(u, v)
    tip, dent = (outer, 0.0), (inner * np.cos(half), inner * np.sin(half))
    return _segment(radius * np.cos(angle), radius * np.sin(angle), tip, dent)


def distance(shape: str, u: Field, v: Field) -> Field:
    """Signed distance to the outline of `shape` at (u, v), negative inside; same shape as u and v."""
    rounding = ROUNDING.get(shape, 0.0)
    if shape == "ball":
        return np.hypot(u, v) - 1
    if shape == "ring":
        return np.abs(np.hypot(u, v) - 0.68) - 0.32
    if shape == "cube":
        du, dv = np.abs(u) - 0.86 + rounding, np.abs(v) - 0.86 + rounding
        return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0) - rounding
    if shape == "diamond":
        return _segment(np.abs(u), np.abs(v), (0.82 - rounding, 0.0), (0.0, 1.06 - rounding)) - rounding
    if shape == "triangle":
        outer = TALLEST - rounding
        return _star_polygon(u, v, 3, outer, outer / 2) - rounding
    outer = 1.14 - rounding
    return _star_polygon(u, v, STAR_POINTS, outer, STAR_INNER * outer) - rounding
