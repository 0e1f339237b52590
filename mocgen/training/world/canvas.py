"""A small anti-aliased canvas; coordinates run from 0 to 1, y down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mocgen.training.world.shapes import Field

Color = tuple[float, float, float]


def rgb(code: str) -> Color:
    """A colour from its hexadecimal code."""
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


class Canvas:
    """A square picture that is painted back to front."""

    def __init__(self, size: int) -> None:
        self.size = size
        centres = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x: Field = centres[None, :]  # (1, W)
        self.y: Field = centres[:, None]  # (H, 1)
        self.image: NDArray[np.float32] = np.zeros((size, size, 3), np.float32)

    def _window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Rows and columns of a box, one pixel larger on each side."""
        first, last = [max(0, int(v * self.size) - 1) for v in (top, left)], (bottom, right)
        stop = [max(0, min(self.size, int(v * self.size) + 2)) for v in last]
        return slice(first[0], stop[0]), slice(first[1], stop[1])

    def fill(self, distance: Field, color: Color, *, alpha: float = 1.0, soft: float = 0.0) -> None:
        """Paint where a signed distance over the whole canvas is negative; `soft`: width of the edge."""
        cover = np.clip(0.5 - distance / max(soft, 1 / self.size), 0, 1) * alpha
        self.image += cover[..., None] * (np.array(color, np.float32) - self.image)

    def gradient(self, colors: Sequence[Color], top: float = 0.0, bottom: float = 1.0) -> None:
        """Fill the canvas with colours that blend into each other from `top` to `bottom`."""
        stops = np.linspace(top, bottom, len(colors))
        table = np.array(colors, np.float32)
        rows = np.stack([np.interp(self.y[:, 0], stops, table[:, i]) for i in range(3)], axis=1)
        self.image[:] = rows[:, None]

    def land(self, line: Field, upper: Color, lower: Color, *, depth: float = 0.35) -> None:
        """Ground below `line` (1, W); its colour goes from `upper` at the line to `lower` at `depth`."""
        below = self.y - line
        cover = np.clip(0.5 + below * self.size, 0, 1)[..., None]
        blend = np.clip(below / depth, 0, 1)[..., None]
        color = np.array(upper, np.float32) * (1 - blend) + np.array(lower, np.float32) * blend
        self.image += cover * (color - self.image)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        color: Color,
        *,
        angle: float = 0.0,
        alpha: float = 1.0,
        soft: float = 0.0,
    ) -> None:
        """A filled ellipse, turned clockwise by `angle`; `soft` widens the edge inwards and outwards."""
        reach = max(rx, ry) + soft
        rows, columns = self._window(x - reach, y - reach, x + reach, y + reach)
        dx, dy = self.x[:, columns] - x, self.y[rows] - y
        cos, sin = np.cos(angle), np.sin(angle)
        distance = (np.hypot((dx * cos + dy * sin) / rx, (dy * cos - dx * sin) / ry) - 1) * min(rx, ry)
        cover = np.clip(0.5 - distance / max(soft, 1 / self.size), 0, 1)[..., None] * alpha
        patch = self.image[rows, columns]
        patch += cover * (np.array(color, np.float32) - patch)

    def disc(self, x: float, y: float, radius: float, color: Color, *, alpha: float = 1.0) -> None:
        """A filled circle."""
        self.ellipse(x, y, radius, radius, color, alpha=alpha)

    def glow(self, x: float, y: float, radius: float, color: Color, alpha: float) -> None:
        """Light that fades with the distance from (x, y)."""
        cover = alpha * np.exp(-((self.x - x) ** 2 + (self.y - y) ** 2) / radius**2)[..., None]
        self.image += cover * (np.array(color, np.float32) - self.image)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """A filled rectangle."""
        rows, columns = self._window(left, top, right, bottom)
        x, y = self.x[:, columns], self.y[rows]
        distance = np.maximum(np.maximum(left - x, x - right), np.maximum(top - y, y - bottom))
        cover = np.clip(0.5 - distance * self.size, 0, 1)[..., None]
        patch = self.image[rows, columns]
        patch += cover * (np.array(color, np.float32) - patch)

    def stroke(self, points: Sequence[tuple[float, float]], width: float, color: Color) -> None:
        """A line with round ends through `points`."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        rows, columns = self._window(min(xs) - width, min(ys) - width, max(xs) + width, max(ys) + width)
        x, y = self.x[:, columns], self.y[rows]
        nearest = np.full((y.shape[0], x.shape[1]), 9, np.float32)
        for (ax, ay), (bx, by) in pairwise(points):
            ex, ey = bx - ax, by - ay
            along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, np.hypot(x - ax - ex * along, y - ay - ey * along))
        cover = np.clip(0.5 - (nearest - width / 2) * self.size, 0, 1)[..., None]
        patch = self.image[rows, columns]
        patch += cover * (np.array(color, np.float32) - patch)

    def cone(self, x: float, top: float, bottom: float, width: float, color: Color) -> None:
        """An upright triangle: its tip at (x, top), `width` wide at `bottom`."""
        rows, columns = self._window(x - width / 2, top, x + width / 2, bottom)
        px, py = self.x[:, columns], self.y[rows]
        slope = width / 2 / (bottom - top)
        side = (np.abs(px - x) - slope * (py - top)) / np.hypot(1, slope)
        cover = np.clip(0.5 - np.maximum(side, py - bottom) * self.size, 0, 1)[..., None]
        patch = self.image[rows, columns]
        patch += cover * (np.array(color, np.float32) - patch)
