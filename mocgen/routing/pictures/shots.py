"""Shot × shot: from which shot each shot took its routed attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mocgen.routing.report import ContextLabel, RoutingReport
from mocgen.routing.statistics import routed_shares

from .canvas import ABSENT, FAINT, PAPER, Canvas, Pixels, ink_on, snap
from .rulers import Ruler, Thumbnails
from .scale import Scale, Values, draw_bar

MARGIN = 0.3
HEAD = 0.72
SIDE = 6.0
SMALLEST = 0.24  # inches: a cell still holds its number


def shot_pictures(report: RoutingReport, thumbnails: Thumbnails) -> Thumbnails:
    """One picture per shot, by shot: that of the middle one of its contexts that have a picture."""
    chosen: dict[int, Pixels | None] = {}
    for shot in range(report.shots):
        inside = [
            picture
            for index, label in enumerate(report.contexts)
            if label.shot == shot and (picture := thumbnails.get(index)) is not None
        ]
        if inside:
            chosen[shot] = inside[len(inside) // 2]
    return chosen


def draw_shots(report: RoutingReport, thumbnails: Thumbnails, path: Path) -> None:
    """Draw the share of each shot's routed attention that went to each shot, with numbers in percent."""
    asking = report.asking_shots()
    shares = routed_shares(report).numpy()[asking]
    labels = [ContextLabel(kind="video", shot=shot, length=1) for shot in range(report.shots)]
    pictures = shot_pictures(report, thumbnails)
    cell = snap(min(0.8, max(SMALLEST, SIDE / report.shots)))
    top = Ruler("top", labels, range(report.shots), pictures, cell, named=False)
    left = Ruler("left", labels, asking, pictures, cell, named=False)
    x, y = snap(MARGIN + left.depth), snap(HEAD + top.depth)
    canvas = Canvas(max(x + top.length + MARGIN, 5.4), y + left.length + 0.85)
    canvas.text("Where each shot's routed attention went", MARGIN, 0.28, size=12, bold=True)
    canvas.text("rows ask, columns answer; rows add up to 100 %", MARGIN, 0.5, size=8, color=FAINT)
    canvas.box(x, y, top.length, left.length, fill=ABSENT)
    values = np.where(shares > 0, shares, np.nan)
    canvas.image(Scale().colours(values), x, y, top.length, left.length, smooth=False)
    _grid(canvas, x, y, cell, len(asking), report.shots)
    _numbers(canvas, shares, x, y, cell)
    top.draw(canvas, x, y)
    left.draw(canvas, x, y)
    draw_bar(canvas, Scale(), "share of the shot's routed attention", MARGIN, y + left.length + 0.2, 2.6)
    canvas.save(path)


def _grid(canvas: Canvas, x: float, y: float, cell: float, rows: int, columns: int) -> None:
    for column in range(1, columns):
        canvas.line((x + column * cell,) * 2, (y, y + rows * cell), color=PAPER, width=0.8)
    for row in range(1, rows):
        canvas.line((x, x + columns * cell), (y + row * cell,) * 2, color=PAPER, width=0.8)


def _numbers(canvas: Canvas, shares: Values, x: float, y: float, cell: float) -> None:
    size = min(9.0, max(5.0, cell * 24))
    for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
        share = float(shares[row, column])
        centre = (x + (column + 0.5) * cell, y + (row + 0.5) * cell)
        canvas.text(f"{share * 100:.0f}", *centre, size=size, color=ink_on(share), align="center")
