"""What a video being written is, and what each kind of output does with its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from av.video.frame import VideoFrame

from mocgen.video.colour import BT709, Colour


@dataclass(frozen=True, kw_only=True)
class Target:
    """The video to be written, the same for all of its frames."""

    part: Path  # where it is written until complete
    width: int
    height: int
    fps: Fraction  # average
    time_base: Fraction  # seconds per tick, fine enough for every frame's time
    metadata: Mapping[str, str]
    colour: Colour = BT709
    halved_chroma: bool = True  # False: 4:4:4
    pixel_aspect: Fraction | None = None
    faithful: bool = False  # begins with frames that must look unchanged


class Sink(Protocol):
    """One kind of output. Everything may raise av.FFmpegError and OSError."""

    def add(self, frame: VideoFrame, time: Fraction, *, cut: bool = False) -> None:
        """Append a frame, RGB or YUV in the target's colour, shown at `time` seconds; cut: a shot begins."""

    def finish(self, attachment: bytes | None) -> None:
        """Complete the file under the target's part name."""

    def abandon(self) -> None:
        """Let go of everything; the writer removes the part."""


class Clock:
    """Turns seconds into ticks that always grow, as every encoder demands."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self._last: int | None = None

    def tick(self, time: Fraction) -> int:
        """The tick nearest to `time`, at least one after the last."""
        tick = round(time / self.time_base)
        if self._last is not None:
            tick = max(tick, self._last + 1)
        self._last = tick
        return tick
