"""A sheet to draw on, measured in inches from its top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

DPI = 160
INK = "#1d1d24"
FAINT = "#74747f"
ANCHOR = "#cdd0d8"  # always attended, outside the budget
ABSENT = "#f6f6f8"  # not available to the query
PAPER = "#ffffff"

Pixels = NDArray[Any]
Align = Literal["left", "center", "right"]


def snap(inches: float) -> float:
    """The nearest length that is a whole number of pixels, at least one."""
    return max(1, round(inches * DPI)) / DPI


def shades(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (…, 4) of values in 0…1: pale to dark, perceptually uniform, readable in grey."""
    return np.asarray(colormaps["magma_r"](0.02 + 0.93 * np.clip(values, 0.0, 1.0)))


def ink_on(value: float) -> str:
    """A text colour that is readable on shades(value)."""
    return PAPER if value > 0.45 else INK


class Canvas:
    """One picture. Lengths are inches, y points down, text sizes are points; what is drawn last is on top."""

    def __init__(self, width: float, height: float) -> None:
        self._figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
        FigureCanvasAgg(self._figure)
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._limits = (width, height)
        self._drawn = 0
        self._keep_limits()

    def image(self, pixels: Pixels, x: float, y: float, width: float, height: float, *, smooth: bool) -> None:
        """Draw (h, w, 3 or 4) pixels into a rectangle."""
        self._axes.imshow(
            pixels,
            extent=(x, x + width, y + height, y),
            interpolation="antialiased" if smooth else "nearest",
            interpolation_stage="rgba",
            aspect="auto",
            zorder=self._above(),
        )
        self._keep_limits()

    def text(
        self,
        words: str,
        x: float,
        y: float,
        *,
        size: float = 8,
        color: str = INK,
        align: Align = "left",
        turned: bool = False,
        above: bool = False,
        bold: bool = False,
    ) -> None:
        """Write words, centred on y or standing `above` it; `turned` words read upwards."""
        self._axes.text(
            x,
            y,
            words.replace("$", r"\$"),
            fontsize=size,
            color=color,
            ha=align,
            va="bottom" if above else "center" if turned else "center_baseline",
            rotation=90 if turned else 0,
            fontweight="bold" if bold else "normal",
            zorder=self._above(),
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], *, color: str = INK, width: float = 0.6) -> None:
        """Draw a line through points; `width` is in points."""
        self._axes.plot(xs, ys, color=color, linewidth=width, solid_capstyle="butt", zorder=self._above())

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: object, edge: str = "none"
    ) -> None:
        """Draw a rectangle; `fill` is any colour of matplotlib, "none" for an empty one."""
        self._axes.add_patch(
            Rectangle(
                (x, y), width, height, facecolor=fill, edgecolor=edge, linewidth=0.6, zorder=self._above()
            )
        )

    def arc(
        self,
        start: float,
        end: float,
        base: float,
        rise: float,
        *,
        color: object,
        width: float,
        dashed: bool = False,
    ) -> None:
        """Draw an arch from (start, base) to (end, base), `rise` high; `width` is in points."""
        points = [(start, base), (start, base - rise * 4 / 3), (end, base - rise * 4 / 3), (end, base)]
        outline = Outline(points, [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4])
        self._axes.add_patch(
            PathPatch(
                outline,
                facecolor="none",
                edgecolor=color,
                linewidth=width,
                linestyle=(0, (3, 1.5)) if dashed else "solid",
                capstyle="butt",
                zorder=self._above(),
            )
        )

    def save(self, path: Path) -> None:
        """Write the picture as PNG."""
        self._figure.savefig(path, format="png", dpi=DPI)

    def _above(self) -> int:
        self._drawn += 1
        return self._drawn

    def _keep_limits(self) -> None:
        width, height = self._limits
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
