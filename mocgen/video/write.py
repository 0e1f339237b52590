"""Writing a video as it is made: streamed into a hidden file that gets its name only when complete."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from av.video.frame import VideoFrame

from mocgen.errors import OutputError, UsageError
from mocgen.video.folder import FolderSink
from mocgen.video.gif import GIF_MOST_FPS, GifSink
from mocgen.video.movie import MovieSink
from mocgen.video.output import (
    OutputKind,
    check_output,
    output_errors,
    part_path,
    put_in_place,
    remove_part,
)
from mocgen.video.sink import Sink, Target
from mocgen.video.source import OnFrames, SourceCopy, source_target


class VideoWriter:
    """Context manager that writes one video; memory does not grow with its length.

    The kind follows from the name: .mp4 (H.264), .webm (VP9), .gif, or a folder of PNGs. With `source`, that
    clip comes first: its frames and times unchanged, visually lossless in .mp4 and .webm, lossless as PNGs,
    its sound kept in .mp4 and .webm; frames written afterwards follow its last one in the same colours.
    If the block raises, or is interrupted, nothing is left behind.

    Raises UsageError for a suffix that cannot be written; OutputError if the output exists (unless
    `overwrite`), cannot be written, or the disk is full; ClipError if the source cannot be read; ValueError
    for a source of another size.
    """

    def __init__(
        self,
        output: Path | str,
        *,
        width: int,
        height: int,
        fps: Fraction,
        metadata: Mapping[str, str],
        overwrite: bool = False,
        source: Path | None = None,
    ) -> None:
        self._output = Path(output)
        self._overwrite = overwrite
        self._source = source
        self._kind = check_output(output, overwrite)
        part = part_path(self._output)
        fps = Fraction(fps)
        if self._kind is OutputKind.GIF and fps > GIF_MOST_FPS:
            raise UsageError(
                f"{output}: a GIF holds {GIF_MOST_FPS} frames a second at most, not {float(fps):g}. "
                "Name the output .mp4 or .webm."
            )
        if source is None:
            self._target = Target(
                part=part, width=width, height=height, fps=fps, time_base=1 / fps, metadata=metadata
            )
        else:
            self._target = source_target(
                source, part=part, width=width, height=height, fps=fps, metadata=metadata
            )
        self._sink: Sink | None = None
        self._copied = source is None
        self._attachment: bytes | None = None
        self._begin = Fraction(0)  # when the first written frame is due
        self._written = 0
        self.frames_written = 0  # all frames of the output so far, the source's included

    def __enter__(self) -> Self:
        with output_errors(self._output):
            self._sink = self._new_sink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._clean_up()

    def copy_source(self, on_frames: OnFrames | None = None) -> None:
        """Copy the source now, telling `on_frames` how many frames are done.

        Without this call it happens before the first `write`. Raises ClipError, OutputError.
        """
        if self._copied or self._source is None:
            return
        self._copied = True
        sink = self._opened()
        copy = SourceCopy(self._source, sink, self._target)
        movie = sink.container if isinstance(sink, MovieSink) else None
        copy.run(movie, self._kind, self._output, on_frames)
        self._begin = copy.end
        self.frames_written += copy.frames

    def write(self, frames: np.ndarray, *, cut: bool = True) -> None:
        """Append uint8 RGB frames (T, H, W, 3); cut: the first of them begins a shot (a key frame).

        Raises OutputError if they cannot be stored, ValueError if they are of another size or type.
        """
        size = (self._target.height, self._target.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != size:
            raise ValueError(
                f"frames must be uint8 (T, {size[0]}, {size[1]}, 3), not {frames.dtype} {frames.shape}"
            )
        self.copy_source()
        sink = self._opened()
        with output_errors(self._output):
            for index, picture in enumerate(frames):
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                time = self._begin + self._written / self._target.fps
                sink.add(frame, time, cut=cut and index == 0)
                self._written += 1
                self.frames_written += 1

    def attach(self, payload: bytes) -> bool:
        """Store bytes with the video. Returns False, and stores nothing, for .webm and .gif."""
        if self._kind not in (OutputKind.MP4, OutputKind.FOLDER):
            return False
        self._attachment = payload
        return True

    def _new_sink(self) -> Sink:
        if self._kind is OutputKind.GIF:
            return GifSink(self._target)
        if self._kind is OutputKind.FOLDER:
            return FolderSink(self._target)
        return MovieSink(self._kind, self._target)

    def _opened(self) -> Sink:
        if self._sink is None:
            raise ValueError("a VideoWriter is used in a with block")
        return self._sink

    def _finish(self) -> None:
        self.copy_source()
        if not self.frames_written:
            raise OutputError(f"{self._output}: there are no frames to write. Ask for at least one shot.")
        with output_errors(self._output):
            self._opened().finish(self._attachment)
        put_in_place(self._target.part, self._output, overwrite=self._overwrite)

    def _clean_up(self) -> None:
        if self._sink is not None:
            with suppress(Exception):  # whatever went wrong has been raised already
                self._sink.abandon()
            self._sink = None
        remove_part(self._target.part)
