"""Where a clip cuts from one shot to the next, found in the frames that are read anyway.

Every decoded frame goes as a thumbnail through FFmpeg's `scdet`: its score is the mean change from the
frame before, in percent, or what that change has over the one before it if this is less. So motion, which
goes on, does not count. A picture that is back within `FLASH` was interrupted by a flash, not by a cut.
Fades and dissolves are no cuts, and a jump cut within one background may change too little to be seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

CUT = 10.0  # scdet's own threshold
FLASH = Fraction(3, 10)  # seconds
_SIDE = 96  # of a thumbnail, pixels

TimedFrame = tuple[Fraction, VideoFrame]  # seconds on the stream's clock, frame


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A shot of a clip: the second at which it begins, and which of the frames that were read show it."""

    begin: float
    frames: range


class SceneChange:
    """FFmpeg's scene change detector over frames of any size that are shown one after another."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=_SIDE, height=_SIDE, format=VideoFormat("rgb24"), time_base=Fraction(1)
        )
        detector, sink = self._graph.add("scdet"), self._graph.add("buffersink")
        source.link_to(detector)
        detector.link_to(sink)
        self._graph.configure()
        self._seen = 0

    def see(self, frame: VideoFrame) -> tuple[bool, np.ndarray]:
        """Whether this frame begins a shot, and its thumbnail, int16 (H, W, 3)."""
        small = self._scaler.reformat(
            frame, width=_SIDE, height=_SIDE, format="rgb24", interpolation=Interpolation.AREA, threads=1
        )
        self._graph.push(small)
        seen = self._graph.pull()
        assert isinstance(seen, VideoFrame)
        self._seen += 1
        compared = self._seen > 2  # the first change has none before it
        score = float(seen.metadata["lavfi.scd.score"])
        return compared and score >= CUT, seen.to_ndarray().astype(np.int16)


def find_cuts(frames: Iterable[np.ndarray]) -> list[bool]:
    """For each of the frames (H, W, 3) uint8 of a film, whether a shot begins with it."""
    detector = SceneChange()
    return [detector.see(VideoFrame.from_ndarray(frame))[0] for frame in frames]


class CutFinder:
    """Watches a clip being read: every decoded frame, and the times of those that are handed out."""

    def __init__(self) -> None:
        self._detector = SceneChange()
        self._begins: list[Fraction] = []  # of shots
        self._shown: list[Fraction] = []
        self._origin = Fraction(0)
        self._newest: tuple[np.ndarray, np.ndarray] | None = None  # pictures before and after the newest cut

    def watch(self, frames: Iterable[TimedFrame], *, origin: Fraction) -> Iterator[TimedFrame]:
        """Hand frames on; `origin`: when the clip begins, on its own clock."""
        self._origin = origin
        last: np.ndarray | None = None
        for time, frame in frames:
            cut, picture = self._detector.see(frame)
            if self._was_flash(time, picture):
                self._begins.pop()
                self._newest = None
            elif last is None or cut:
                self._begins.append(time)
                self._newest = None if last is None else (last, picture)
            last = picture
            yield time, frame

    def _was_flash(self, time: Fraction, picture: np.ndarray) -> bool:
        """Whether the newest cut led away from a picture that is back already."""
        if self._newest is None or time - self._begins[-1] > FLASH:
            return False
        before, after = self._newest
        return _change(before, picture) < _change(before, after) / 2

    def show(self, time: Fraction) -> None:
        """The frame of this time is handed out, after those before it."""
        self._shown.append(time)

    def shots(self) -> list[Stretch]:
        """The shots of what was read, once all of it is; those that no frame shows are left out."""
        ends = [bisect_left(self._shown, begin) for begin in self._begins[1:]]
        bounds = zip(self._begins, [0, *ends], [*ends, len(self._shown)], strict=True)
        return [
            Stretch(begin=round(float(begin - self._origin), 3), frames=range(first, end))
            for begin, first, end in bounds
            if first < end
        ]


def _change(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
