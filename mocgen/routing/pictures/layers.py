"""Small multiples: the routing heatmap of every layer and head."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mocgen.routing.report import RoutingReport

from .canvas import ABSENT, ANCHOR, FAINT, PAPER, Canvas, snap
from .heatmap import routed_share
from .rulers import spans
from .scale import Scale, Values, draw_bar, fitting_scale, flat

MARGIN = 0.3
HEAD = 0.95
GAP = 0.16
SHEET = 9.6  # inches for the panels of one row


def draw_layers(report: RoutingReport, path: Path) -> None:
    """Draw one panel per layer (rows) and head (columns), all on the same colour scale."""
    rows = report.asking()
    values = routed_share(report)[:, :, rows]  # (N, H, R, C)
    scale = fitting_scale(values)
    side = snap(min(2.0, (SHEET - GAP * (report.heads - 1)) / report.heads))
    tall = snap(side * len(rows) / len(report.contexts))
    left = MARGIN + 0.5
    width = max(left + report.heads * (side + GAP) + MARGIN, 5.0)
    canvas = Canvas(width, HEAD + report.layers * (tall + GAP) + 0.75)
    canvas.text("What each head routed to", MARGIN, 0.28, size=12, bold=True)
    canvas.text("rows ask, columns answer; same order as the large heatmap", MARGIN, 0.5, size=8, color=FAINT)
    for head in range(report.heads):
        centre = left + head * (side + GAP) + side / 2
        canvas.text(
            f"head {head}" if side > 0.5 else f"{head}", centre, HEAD - 0.12, align="center", bold=True
        )
    for layer in range(report.layers):
        y = HEAD + layer * (tall + GAP)
        words = f"layer {layer}" if tall > 0.55 else f"{layer}"
        canvas.text(words, left - 0.16, y + tall / 2, align="center", bold=True, turned=tall > 0.55)
        for head in range(report.heads):
            _panel(canvas, report, values[layer, head], scale, left + head * (side + GAP), y, side, tall)
    foot = HEAD + report.layers * (tall + GAP) + 0.1
    draw_bar(canvas, scale, "share of queries that routed to the context", left, foot, 2.6)
    canvas.save(path)


def _panel(
    canvas: Canvas,
    report: RoutingReport,
    values: Values,
    scale: Scale,
    x: float,
    y: float,
    width: float,
    height: float,
) -> None:
    rows = report.asking()
    canvas.box(x, y, width, height, fill=ABSENT)
    anchored = np.where(report.anchors[rows].numpy(), 1.0, np.nan)
    canvas.image(flat(anchored, ANCHOR), x, y, width, height, smooth=False)
    canvas.image(scale.colours(values), x, y, width, height, smooth=False)
    cell = width / len(report.contexts)
    if cell < 0.03:
        return
    for span in spans(report.contexts)[1:]:
        at = x + span.first * cell
        canvas.line((at, at), (y, y + height), color=PAPER, width=0.4)
    for span in spans([report.contexts[row] for row in rows])[1:]:
        at = y + span.first * cell
        canvas.line((x, x + width), (at, at), color=PAPER, width=0.4)
