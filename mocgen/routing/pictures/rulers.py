"""The two axes of a context-by-context picture: shots, frame thumbnails and context names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Literal

from mocgen.routing.report import ContextLabel

from .canvas import FAINT, INK, Align, Canvas, Pixels

NAMES = 0.62  # inches for the names of contexts
THUMBNAIL = 0.3  # smallest readable thumbnail, inches
SHOT_NAME = 0.26

Thumbnails = Mapping[int, Pixels | None]
Side = Literal["top", "left"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of neighbouring contexts of one shot along an axis: places [first, end)."""

    shot: int | None
    first: int
    end: int


def spans(labels: Sequence[ContextLabel]) -> list[Span]:
    """Group neighbouring contexts by shot."""
    found: list[Span] = []
    for place, label in enumerate(labels):
        if found and found[-1].shot == label.shot:
            found[-1] = Span(shot=label.shot, first=found[-1].first, end=place + 1)
        else:
            found.append(Span(shot=label.shot, first=place, end=place + 1))
    return found


def thinned(centres: Sequence[float], room: float) -> list[int]:
    """Indices of centres that can be labelled when each label needs `room`: evenly thinned, first kept."""
    if len(centres) < 2:
        return list(range(len(centres)))
    closest = min(after - before for before, after in pairwise(centres))
    return list(range(0, len(centres), max(1, ceil(room / closest - 1e-6))))


class Ruler:
    """One axis, on one side of a picture: `indices` are the contexts along it, each `cell` inches wide."""

    def __init__(
        self,
        side: Side,
        labels: Sequence[ContextLabel],
        indices: Sequence[int],
        thumbnails: Thumbnails,
        cell: float,
        *,
        named: bool = True,
    ) -> None:
        self.side = side
        self.labels = [labels[index] for index in indices]
        self.spans = spans(self.labels)
        self.cell = cell
        self.length = cell * len(self.labels)
        self.named = named and cell >= 0.13
        self._pictures = [thumbnails.get(index) for index in indices]
        self._each = cell >= 0.85 * THUMBNAIL  # a thumbnail for each context, else one for each shot
        widest = max((span.end - span.first for span in self.spans), default=1) * cell
        slot = cell * 0.94 if self._each else min(max(widest * 0.96, THUMBNAIL), 0.6)
        self._size = _picture_size(self._pictures, slot, side)

    @property
    def depth(self) -> float:
        """Inches that the ruler needs beside the picture."""
        return SHOT_NAME + self._names_depth + self._pictures_depth

    @property
    def _names_depth(self) -> float:
        return NAMES if self.named else 0.06

    @property
    def _pictures_depth(self) -> float:
        if self._size is None:
            return 0.0
        return 0.06 + (self._size[1] if self.side == "top" else self._size[0])

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Draw the ruler for a picture whose top left corner is at (x, y)."""
        pen = _Pen(canvas, self.side, x, y)
        if self.named:
            for place, label in enumerate(self.labels):
                color = FAINT if label.kind == "text" else INK
                pen.name(label.name, (place + 0.5) * self.cell, 0.06, color)
        if self._size is not None:
            away = self._names_depth + (self._pictures_depth - 0.06) / 2
            for place in self._pictured_places():
                picture = self._pictures[place]
                if picture is not None:
                    pen.picture(picture, self._picture_centre(place), away, self._size)
        self._draw_shots(pen, self._names_depth + self._pictures_depth)

    def _draw_shots(self, pen: _Pen, near: float) -> None:
        shots = [span for span in self.spans if span.shot is not None]
        centres = [(span.first + span.end) / 2 * self.cell for span in shots]
        roomy = bool(shots) and min(span.end - span.first for span in shots) * self.cell >= 0.5
        chosen = set(thinned(centres, 0.0 if roomy else 0.24))
        for number, (span, centre) in enumerate(zip(shots, centres, strict=True)):
            pen.bracket(span.first * self.cell, span.end * self.cell, near + 0.04, min(0.03, self.cell / 4))
            if number in chosen and span.shot is not None:
                pen.title(f"shot {span.shot + 1}" if roomy else f"{span.shot + 1}", centre, near + 0.15)

    def _pictured_places(self) -> list[int]:
        """Places whose thumbnail is drawn: each context, or the middle one of as many shots as fit."""
        places = [place for place, picture in enumerate(self._pictures) if picture is not None]
        if self._each:
            return places
        middle = []
        for span in self.spans:
            inside = [place for place in places if span.first <= place < span.end]
            if inside:
                middle.append(inside[len(inside) // 2])
        centres = [self._centre_of_span(place) for place in middle]
        return [middle[index] for index in thinned(centres, self._picture_length * 1.04)]

    @property
    def _picture_length(self) -> float:
        """Inches that a thumbnail takes along the axis."""
        return 0.0 if self._size is None else self._size[0 if self.side == "top" else 1]

    def _picture_centre(self, place: int) -> float:
        if self._each:
            return (place + 0.5) * self.cell
        half = self._picture_length / 2
        return min(max(self._centre_of_span(place), half), max(self.length - half, half))

    def _centre_of_span(self, place: int) -> float:
        span = next(span for span in self.spans if span.first <= place < span.end)
        return (span.first + span.end) / 2 * self.cell


def _picture_size(pictures: Sequence[Pixels | None], slot: float, side: Side) -> tuple[float, float] | None:
    """(width, height) in inches of thumbnails that fill `slot` along the axis; they share one shape."""
    shape = next((picture.shape for picture in pictures if picture is not None), None)
    if shape is None:
        return None
    height, width = shape[:2]
    scale = min(slot / (width if side == "top" else height), 2 * slot / max(width, height))
    return width * scale, height * scale


class _Pen:
    """Draws at (distance along, distance away) of a picture's top or left edge."""

    def __init__(self, canvas: Canvas, side: Side, x: float, y: float) -> None:
        self._canvas, self._top, self._x, self._y = canvas, side == "top", x, y

    def _at(self, along: float, away: float) -> tuple[float, float]:
        return (self._x + along, self._y - away) if self._top else (self._x - away, self._y + along)

    def name(self, words: str, along: float, away: float, color: str) -> None:
        x, y = self._at(along, away)
        align: Align = "center" if self._top else "right"
        self._canvas.text(words, x, y, size=6.5, color=color, align=align, turned=self._top, above=self._top)

    def title(self, words: str, along: float, away: float) -> None:
        x, y = self._at(along, away)
        self._canvas.text(words, x, y, size=8, align="center", bold=True, turned=not self._top)

    def picture(self, pixels: Pixels, along: float, away: float, size: tuple[float, float]) -> None:
        x, y = self._at(along, away)
        width, height = size
        self._canvas.image(pixels, x - width / 2, y - height / 2, width, height, smooth=True)

    def bracket(self, start: float, end: float, away: float, inset: float) -> None:
        first, last = self._at(start + inset, away), self._at(end - inset, away)
        self._canvas.line((first[0], last[0]), (first[1], last[1]), color=INK, width=1.2)
