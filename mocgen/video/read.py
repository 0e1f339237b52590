"""Decoded frames of a clip as RGB arrays: streamed, upright, true in colour, resampled in time and size."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mocgen.errors import ClipError
from mocgen.video.clip import Clip, open_clip, truncated
from mocgen.video.colour import ColourConverter
from mocgen.video.cuts import CutFinder, TimedFrame
from mocgen.video.probe import measure
from mocgen.video.upright import upright_rgb

_ROUNDING = Fraction(1, 1000)  # of a frame's length: below it two times are the same


def read_frames(
    path: Path,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    last_seconds: float | None = None,
    cuts: CutFinder | None = None,
) -> Iterator[np.ndarray]:
    """Yield the frames of a clip as uint8 RGB (H, W, 3), upright, one at a time.

    fps: take the frames nearest to a regular clock of that rate; None keeps every frame.
    size: (width, height) to scale to, whatever the aspect; None keeps the displayed size.
    last_seconds: only the tail of the clip; decoding starts at the last key frame before it.
    cuts: watches the frames from there on, those that the clock leaves out too.
    Matrix and range of the source are respected; untagged video is BT.601 up to 576 lines, else BT.709.
    Raises ClipError if the clip cannot be read or decoded, at the first `next`.
    """
    timing = measure(path)
    converter = ColourConverter()
    with open_clip(path) as clip:
        start = timing.start
        if last_seconds is not None:
            start = max(start, timing.end - Fraction(last_seconds))
            if _can_seek(path, start):
                _seek(clip, start)
        frames = _from(frame_times(clip, timing.fps), start - _ROUNDING / timing.fps)
        if cuts is not None:
            frames = cuts.watch(frames, origin=timing.start)
        if fps is not None:
            frames = _on_clock(frames, start=start, end=timing.end, fps=Fraction(fps))
        empty = True
        for time, frame in frames:
            empty = False
            if cuts is not None:
                cuts.show(time)
            yield upright_rgb(frame, converter, size)
        if empty:
            raise truncated(clip.path, "not one frame can be decoded")


def frame_times(clip: Clip, fps: Fraction) -> Iterator[TimedFrame]:
    """Decoded frames with their presentation times, made up at `fps` where a container has none."""
    tick: Fraction | None = None
    for frame in clip.frames():
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None:
            tick = stamp * (frame.time_base or clip.time_base)
        else:
            tick = Fraction(0) if tick is None else tick + 1 / fps
        yield tick, frame


def _can_seek(path: Path, start: Fraction) -> bool:
    """Whether seeking to `start` lands at or before it; containers without an index may overshoot."""
    with open_clip(path) as clip:
        try:
            _seek(clip, start)
            frame = clip.first_frame()
        except (av.FFmpegError, ClipError):
            return False
        return frame.pts is not None and frame.pts * (frame.time_base or clip.time_base) <= start


def _seek(clip: Clip, start: Fraction) -> None:
    clip.container.seek(int(start / clip.time_base), stream=clip.video)


def _from(frames: Iterator[TimedFrame], start: Fraction) -> Iterator[TimedFrame]:
    """The frames from `start` on; the last one if all are earlier."""
    last: TimedFrame | None = None
    for time, frame in frames:
        last = (time, frame)
        if time >= start:
            yield last
            last = None
    if last is not None:
        yield last


def _on_clock(
    frames: Iterator[TimedFrame], *, start: Fraction, end: Fraction, fps: Fraction
) -> Iterator[TimedFrame]:
    """For each tick of a clock from `start` to `end` the frame nearest to it, repeated where needed."""
    count = 0
    held: TimedFrame | None = None
    for time, frame in frames:
        while held is not None and start + count / fps < (held[0] + time) / 2:
            yield held
            count += 1
        held = (time, frame)
    while held is not None and (count == 0 or start + (count + _ROUNDING) / fps < end):
        yield held
        count += 1
