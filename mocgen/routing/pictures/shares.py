"""Stacked bars: captions, own shot and memory in the attention of every shot and layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mocgen.routing.statistics import HeadStatistics, RoutingStatistics, Share
from mocgen.routing.wording import percent

from .canvas import FAINT, INK, Canvas

MARGIN = 0.35
HEAD = 1.0
BAR = 3.6  # inches for 100 %
PARTS = (
    ("captions", "#a9adb8"),
    ("own shot", "#3f78b5"),
    ("earlier shots", "#e0792b"),
    ("later shots", "#8a4fa8"),
)


def draw_shares(numbers: RoutingStatistics, path: Path) -> None:
    """Draw where attention mass went, per shot (left) and per layer (right, shots with a past only)."""
    layers = sorted({entry.layer for entry in numbers.heads})
    row = min(0.34, max(0.16, 9.0 / max(len(numbers.shots), len(layers))))
    height = HEAD + row * max(len(numbers.shots), len(layers)) + 0.4
    right = MARGIN + 0.75 + BAR + 1.0
    canvas = Canvas(right + 0.75 + BAR + MARGIN, height)
    canvas.text("Where attention went", MARGIN, 0.28, size=12, bold=True)
    later = any(shot.share.future > 0 for shot in numbers.shots)
    _legend(canvas, PARTS if later else PARTS[:3], MARGIN, 0.54)
    canvas.text("density", MARGIN + 0.75 + BAR + 0.1, HEAD - 0.12, size=7.5, color=FAINT)
    for place, shot in enumerate(numbers.shots):
        y = HEAD + place * row
        _bar(canvas, f"shot {shot.shot + 1}", shot.share, MARGIN + 0.75, y, row)
        canvas.text(percent(shot.density), MARGIN + 0.75 + BAR + 0.1, y + row / 2, size=7, color=FAINT)
    remembering = [entry for entry in numbers.heads if entry.mean_distance is not None] or list(numbers.heads)
    for place, layer in enumerate(layers):
        share = _mean([entry for entry in remembering if entry.layer == layer])
        _bar(canvas, f"layer {layer}", share, right + 0.75, HEAD + place * row, row)
    canvas.save(path)


def parts_of(share: Share) -> tuple[float, float, float, float]:
    """The four parts of a share, in the order of PARTS."""
    return share.captions, share.own_shot, share.routed_past, share.future


def _bar(canvas: Canvas, name: str, share: Share, x: float, y: float, row: float) -> None:
    canvas.text(name, x - 0.1, y + row / 2, size=8 if row >= 0.2 else 6.5, align="right")
    for part, (_, color) in zip(parts_of(share), PARTS, strict=True):
        canvas.box(x, y + row * 0.1, part * BAR, row * 0.8, fill=color)
        if part * BAR >= 0.36:
            ink = INK if color == PARTS[0][1] else "#ffffff"
            canvas.text(
                percent(part),
                x + part * BAR / 2,
                y + row / 2,
                size=7 if row >= 0.2 else 6,
                color=ink,
                align="center",
            )
        x += part * BAR


def _legend(canvas: Canvas, parts: Sequence[tuple[str, str]], x: float, y: float) -> None:
    for name, color in parts:
        canvas.box(x, y - 0.065, 0.13, 0.13, fill=color)
        canvas.text(name, x + 0.19, y, size=8)
        x += 0.19 + 0.062 * len(name) + 0.2


def _mean(entries: Sequence[HeadStatistics]) -> Share:
    parts = [parts_of(entry.share) for entry in entries]
    means = [sum(column) / len(parts) for column in zip(*parts, strict=True)]
    return Share(captions=means[0], own_shot=means[1], routed_past=means[2], future=means[3])
