"""From numbers to colours, and the bar that explains them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mocgen.routing.wording import percent

from .canvas import FAINT, INK, Canvas, shades

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Colours for shares between 0 and `top`; a logarithmic scale starts at `floor`."""

    top: float = 1.0
    floor: float | None = None  # smallest share of a logarithmic scale; None: linear

    def place(self, values: Values) -> Values:
        """Position 0…1 along the scale."""
        if self.floor is None:
            return np.asarray(values / self.top)
        return np.asarray(np.log(np.maximum(values, self.floor) / self.floor) / np.log(self.top / self.floor))

    def colours(self, values: Values) -> Values:
        """RGBA colours (…, 4); transparent where a value is NaN."""
        colours = shades(self.place(np.nan_to_num(values)))
        colours[np.isnan(values)] = 0.0
        return colours

    def ticks(self) -> list[float]:
        """Values to name on the bar."""
        if self.floor is None:
            return [self.top * part / 4 for part in range(5)]
        decades = int(np.ceil(np.log10(self.top / self.floor)))
        return [
            self.top / 10**power for power in range(decades, -1, -1) if self.top / 10**power >= self.floor
        ]


def flat(where: Values, color: str) -> Values:
    """RGBA (…, 4) of one colour, transparent where NaN."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    flat = np.zeros((*where.shape, 4))
    flat[~np.isnan(where)] = (*channels, 1.0)
    return flat


def fitting_scale(values: Values) -> Scale:
    """A linear scale that ends at a round number at or above the largest value."""
    largest = float(np.nanmax(values, initial=0.0))
    rounds = (0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8, 1.0)
    return Scale(top=next((top for top in rounds if top >= largest), 1.0))


def draw_bar(canvas: Canvas, scale: Scale, title: str, x: float, y: float, width: float) -> None:
    """Draw a horizontal colour bar, 0.45 inches high with its title, from the point (x, y) on."""
    positions = np.linspace(0.0, 1.0, 256)[None]
    canvas.text(title, x, y + 0.06, size=7.5)
    canvas.image(shades(positions), x, y + 0.16, width, 0.11, smooth=True)
    for value in scale.ticks():
        place = x + width * float(scale.place(np.array(value)))
        canvas.line((place, place), (y + 0.27, y + 0.31), color=INK)
        canvas.text(percent(value), place, y + 0.39, size=6.5, color=FAINT, align="center")
