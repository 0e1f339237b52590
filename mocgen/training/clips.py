"""A folder of clips with a `captions.jsonl`: what its lines say, and what is wrong with them.

A line: {"file": "a.mp4", "prompt": "…", "shots": [{"start": 0, "end": 1, "caption": "a red ball"}, …]}
`prompt` may be missing; times are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mocgen.errors import ClipError, TrainingError
from mocgen.video import read_frames

CAPTIONS = "captions.jsonl"
OnBad = Callable[[str], None]  # hears what is wrong with an entry that is skipped


@dataclass(frozen=True, kw_only=True)
class ClipShot:
    """One shot of a clip: when it is, in seconds, and what it shows."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """One line of captions.jsonl."""

    file: Path
    prompt: str
    shots: tuple[ClipShot, ...]


@dataclass(frozen=True, kw_only=True)
class ClipScene:
    """A clip that was read: frames of every shot, uint8 (S, T, size, size, 3), and its words."""

    entry: ClipEntry
    pixels: np.ndarray


def read_entries(folder: Path, on_bad: OnBad) -> list[ClipEntry]:
    """The usable lines of a folder's captions.jsonl; the others are told to `on_bad`.

    Raises TrainingError if there is no such file or it holds no line.
    """
    path = folder / CAPTIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(_entry(folder, json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            on_bad(f"{path}, line {number}: {what}")
    if not any(line.strip() for line in lines):
        raise TrainingError(f"{path} is empty: it needs a line per clip")
    return entries


def read_scenes(
    entries: list[ClipEntry], *, frames: int, fps: float, size: int, on_bad: OnBad
) -> Iterator[ClipScene]:
    """The clips that can be read and whose shots all last `frames` frames at `fps`, one after another.

    Of a longer shot its beginning is taken.
    """
    for entry in entries:
        try:
            yield ClipScene(entry=entry, pixels=_shots(entry, frames, fps, size))
        except (ClipError, ValueError) as error:
            on_bad(str(error))


def _entry(folder: Path, line: Any) -> ClipEntry:
    if not isinstance(line, dict):
        raise ValueError("it must be an object")
    unknown = sorted(set(line) - {"file", "prompt", "shots"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are file, prompt, shots")
    shots = line["shots"]
    if not isinstance(shots, list) or not shots:
        raise ValueError("shots must be a list with one shot at least")
    if not isinstance(line["file"], str) or not isinstance(line.get("prompt", ""), str):
        raise ValueError("file and prompt must be texts")
    return ClipEntry(
        file=folder / line["file"],
        prompt=line.get("prompt", ""),
        shots=tuple(_shot(number, shot) for number, shot in enumerate(shots, start=1)),
    )


def _shot(number: int, shot: Any) -> ClipShot:
    if not isinstance(shot, dict) or set(shot) != {"start", "end", "caption"}:
        raise ValueError(f"shot {number} must have start, end and caption, and nothing else")
    start, end, caption = shot["start"], shot["end"], shot["caption"]
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in (start, end)):
        raise ValueError(f"shot {number}: start and end must be seconds")
    if not 0 <= start < end:
        raise ValueError(f"shot {number} must end after it starts, not go from {start} to {end}")
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"shot {number} has no caption")
    return ClipShot(start=float(start), end=float(end), caption=caption)


def _shots(entry: ClipEntry, frames: int, fps: float, size: int) -> np.ndarray:
    """(S, frames, size, size, 3) uint8. Raises ClipError or ValueError naming the clip."""
    firsts = [round(shot.start * fps) for shot in entry.shots]
    for number, shot in enumerate(entry.shots, start=1):
        if round(shot.end * fps) - round(shot.start * fps) < frames:
            raise ValueError(
                f"{entry.file}: shot {number} lasts {shot.end - shot.start:g} s, "
                f"shorter than {frames / fps:g} s ({frames} frames at {fps:g} a second)"
            )
    last = max(firsts) + frames
    clip = list(islice(read_frames(entry.file, fps=fps, size=(size, size)), last))
    if len(clip) < last:
        number = firsts.index(max(firsts)) + 1
        raise ValueError(f"{entry.file} ends after {len(clip) / fps:g} s, before its shot {number} is over")
    return np.stack([np.stack(clip[first : first + frames]) for first in firsts])
