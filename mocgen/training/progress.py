"""What a run tells while it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .data import OnCast


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run is doing: `done` of `total` units of `part`, the latest loss, a note for the user."""

    part: str
    done: int
    total: int
    loss: float | None = None
    note: str = ""


OnProgress = Callable[[Progress], None]


def counter(part: str, on_progress: OnProgress) -> OnCast:
    """Tells of `done` of `total` units of a part."""
    return lambda done, total: on_progress(Progress(part=part, done=done, total=total))
