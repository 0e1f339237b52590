"""The scene as a film strip, with arches to the shots that each shot looked back at."""

from __future__ import annotations

from pathlib import Path

from mocgen.routing.report import RoutingReport
from mocgen.routing.statistics import remembered, routed_shares
from mocgen.routing.wording import percent

from .canvas import FAINT, INK, Canvas, Pixels, shades
from .rulers import Thumbnails, thinned
from .scale import Scale, draw_bar
from .shots import shot_pictures

MARGIN = 0.35
HEAD = 0.62
SHEET = 11.0
FAINTEST = 0.08  # share below which no arch is drawn
BARS = 0.7


def draw_memory(report: RoutingReport, thumbnails: Thumbnails, path: Path) -> None:
    """Draw shots from left to right; an arch runs from each shot to those it took routed attention from."""
    shots = report.shots
    step = min(1.25, max(0.2, SHEET / shots))
    width = max(shots * step + 2 * MARGIN, 6.0)
    rise = min(3.0, max(0.9, 0.42 * step * shots))
    base = HEAD + rise + 0.15
    size = min(step * 0.9, 1.05) if step * 0.9 >= 0.3 else 0.42
    bars, received = base + size + 0.55, remembered(report)
    end = bars + BARS if any(received) else bars
    canvas = Canvas(width, end + 0.95)
    left = (width - shots * step) / 2
    centres = [left + (shot + 0.5) * step for shot in range(shots)]
    canvas.text("What the scene remembers", MARGIN, 0.28, size=12, bold=True)
    canvas.text(
        f"arches join each shot to {_sources_in_words(shots)} most of its routed attention from "
        f"({percent(FAINTEST)} or more)",
        MARGIN,
        0.5,
        size=8,
        color=FAINT,
    )
    _arches(canvas, report, centres, base, rise)
    _strip(canvas, shot_pictures(report, thumbnails), centres, base + 0.06, size)
    _remembered(canvas, received, centres, bars, step)
    draw_bar(
        canvas,
        Scale(),
        "share of the asking shot's routed attention (dashed: it came from a later shot)",
        MARGIN,
        end + 0.35,
        2.6,
    )
    canvas.save(path)


def _sources(shots: int) -> int:
    """Arches per shot: fewer in long scenes, which would otherwise be a thicket."""
    return 3 if shots <= 12 else 2 if shots <= 30 else 1


def _sources_in_words(shots: int) -> str:
    number = _sources(shots)
    return "the shot that it took" if number == 1 else f"the {number} shots that it took"


def _arches(canvas: Canvas, report: RoutingReport, centres: list[float], base: float, rise: float) -> None:
    shares = routed_shares(report)
    best, source_of = shares.topk(min(_sources(report.shots), report.shots), dim=-1)
    edges = [
        (float(share), asking, int(source))
        for asking in range(report.shots)
        for share, source in zip(best[asking], source_of[asking], strict=True)
        if share >= FAINTEST and source != asking
    ]
    furthest = max((abs(asking - source) for _, asking, source in edges), default=1)
    thick = min(6.0, 60.0 * (centres[1] - centres[0])) if len(centres) > 1 else 1.0
    for share, asking, source in sorted(edges):
        height = rise * (abs(asking - source) / furthest) ** 0.75 * (1.0 if source < asking else 0.85)
        color = tuple(shades(Scale().place(share)))  # type: ignore[arg-type]
        canvas.arc(
            centres[source],
            centres[asking],
            base,
            height,
            color=color,
            width=0.5 + thick * share,
            dashed=source > asking,
        )


def _strip(canvas: Canvas, pictures: Thumbnails, centres: list[float], y: float, size: float) -> None:
    held = [(centres[shot], picture) for shot, picture in sorted(pictures.items()) if picture is not None]
    for index in thinned([centre for centre, _ in held], size * 1.03):
        centre, picture = held[index]
        _frame(canvas, picture, centre, y, size)
    for index in thinned(centres, 0.24):
        canvas.text(f"{index + 1}", centres[index], y + size + 0.13, size=8.5, align="center", bold=True)


def _frame(canvas: Canvas, picture: Pixels, centre: float, y: float, size: float) -> None:
    scale = size / max(picture.shape[:2])
    height, width = picture.shape[0] * scale, picture.shape[1] * scale
    canvas.image(picture, centre - width / 2, y + (size - height) / 2, width, height, smooth=True)


def _remembered(canvas: Canvas, received: list[float], centres: list[float], y: float, step: float) -> None:
    """Bars: the share of all routed attention that each shot received; no bars if no shot had a choice."""
    title = "share of all routed attention (of shots that had a choice)"
    largest = max(received)
    if not largest:
        title = "no shot had a choice between shots"
    canvas.text(title, centres[0] - step / 2, y - 0.1, size=7.5, color=FAINT)
    if not largest:
        return
    for centre, share in zip(centres, received, strict=True):
        height = (BARS - 0.15) * share / largest
        canvas.box(centre - step * 0.3, y + BARS - height, step * 0.6, height, fill="#5b3a8c")
        if step >= 0.34 and share > 0:
            canvas.text(percent(share), centre, y + BARS - height - 0.08, size=7, align="center")
    canvas.line((centres[0] - step / 2, centres[-1] + step / 2), (y + BARS, y + BARS), color=INK)
