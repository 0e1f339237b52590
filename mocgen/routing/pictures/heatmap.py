"""Query context × key context: what every context of the scene looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mocgen.routing.report import RoutingReport

from .canvas import ABSENT, ANCHOR, FAINT, PAPER, Canvas, snap
from .rulers import Ruler, Thumbnails
from .scale import Scale, Values, draw_bar, fitting_scale, flat

MARGIN = 0.3
HEAD = 0.62  # title and subtitle
FOOT = 0.85  # colour bar and legend
SIDE = 9.0  # inches of the picture's longer side


def routed_share(report: RoutingReport) -> Values:
    """(N, H, C, C): share of a context's queries that routed to a context; NaN where they could not."""
    steps = report.token_steps[:, None, :, None].clamp_min(1)
    shares = (report.counts.double() / steps).numpy().copy()
    possible = report.candidates & (report.token_steps.sum(0) > 0)[:, None]
    shares[..., ~possible.numpy()] = np.nan
    return np.asarray(shares)


def draw_heatmap(report: RoutingReport, thumbnails: Thumbnails, path: Path) -> None:
    """Draw the share of queries that routed to each context, mean over layers and heads."""
    values = routed_share(report).mean((0, 1))
    _draw(
        report,
        values,
        thumbnails,
        path,
        scale=fitting_scale(values),
        title="What each context routed to",
        bar="share of queries that routed to the context",
        budget_only=True,
    )


def draw_mass(report: RoutingReport, thumbnails: Thumbnails, path: Path) -> None:
    """Draw the attention mass that each context received, anchors included, mean over layers and heads."""
    values = report.mass.double().mean((0, 1)).numpy().copy()
    values[~(report.candidates | report.anchors).numpy()] = np.nan
    _draw(
        report,
        values,
        thumbnails,
        path,
        scale=Scale(floor=1e-3),
        title="What each context attended to",
        bar="attention mass (logarithmic)",
        budget_only=False,
    )


def _draw(
    report: RoutingReport,
    values: Values,
    thumbnails: Thumbnails,
    path: Path,
    *,
    scale: Scale,
    title: str,
    bar: str,
    budget_only: bool,
) -> None:
    rows = report.asking()
    everything = range(len(report.contexts))
    cell = snap(min(0.44, SIDE / len(everything)))
    top = Ruler("top", report.contexts, everything, thumbnails, cell)
    left = Ruler("left", report.contexts, rows, thumbnails, cell)
    x, y = snap(MARGIN + left.depth), snap(HEAD + top.depth)
    width = max(x + top.length + MARGIN, 6.6)  # room for the legend
    canvas = Canvas(width, y + left.length + FOOT)
    canvas.text(title, MARGIN, 0.28, size=12, bold=True)
    canvas.text(
        f"rows ask, columns answer; mean over {report.layers} layers × {report.heads} heads",
        MARGIN,
        0.5,
        size=8,
        color=FAINT,
    )
    canvas.box(x, y, top.length, left.length, fill=ABSENT)
    unbudgeted = np.where(report.anchors[rows].numpy(), 1.0, np.nan)
    canvas.image(flat(unbudgeted, ANCHOR), x, y, top.length, left.length, smooth=False)
    canvas.image(scale.colours(values[rows]), x, y, top.length, left.length, smooth=False)
    _separate_shots(canvas, top, left, x, y)
    top.draw(canvas, x, y)
    left.draw(canvas, x, y)
    foot = y + left.length + 0.2
    draw_bar(canvas, scale, bar, MARGIN, foot, 2.6)
    _legend(canvas, MARGIN + 3.2, foot + 0.06, anchors=budget_only)
    canvas.save(path)


def _separate_shots(canvas: Canvas, top: Ruler, left: Ruler, x: float, y: float) -> None:
    width = 1.2 if top.cell >= 0.13 else 0.5
    for span in top.spans[1:]:
        at = x + span.first * top.cell
        canvas.line((at, at), (y, y + left.length), color=PAPER, width=width)
    for span in left.spans[1:]:
        at = y + span.first * left.cell
        canvas.line((x, x + top.length), (at, at), color=PAPER, width=width)


def _legend(canvas: Canvas, x: float, y: float, *, anchors: bool) -> None:
    entries = [(ABSENT, "not available to these queries")]
    if anchors:
        entries.insert(0, (ANCHOR, "always attended: own shot, its caption, prompt"))
    for row, (fill, words) in enumerate(entries):
        canvas.box(x, y - 0.05 + row * 0.2, 0.13, 0.13, fill=fill, edge="#b9bcc6")
        canvas.text(words, x + 0.2, y + 0.02 + row * 0.2, size=7.5)
