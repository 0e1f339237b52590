"""A folder of PNGs: frame_00001.png and so on, the settings as JSON, the attachment beside them."""

from __future__ import annotations

from fractions import Fraction

from av.codec.context import CodecContext
from av.video.frame import VideoFrame

from mocgen.video.colour import ColourConverter
from mocgen.video.output import ATTACHMENT_FILE, SETTINGS_FILE
from mocgen.video.settings_text import settings_text
from mocgen.video.sink import Target


class FolderSink:
    """Writes each frame as one lossless picture."""

    def __init__(self, target: Target) -> None:
        self._folder = target.part
        self._target = target
        self._converter = ColourConverter()
        self._encoder = CodecContext.create("png", "w")
        self._encoder.width = target.width
        self._encoder.height = target.height
        self._encoder.pix_fmt = "rgb24"
        self._encoder.time_base = target.time_base
        self._encoder.thread_count = 1  # more threads keep frames back
        self._frames = 0
        self._folder.mkdir()

    def add(self, frame: VideoFrame, time: Fraction, *, cut: bool = False) -> None:
        """Write one picture; its time is that of its place in the sequence."""
        picture = self._converter.to_rgb(frame)
        picture.pts = self._frames
        picture.time_base = self._target.time_base
        self._frames += 1
        data = b"".join(bytes(packet) for packet in self._encoder.encode(picture))
        (self._folder / f"frame_{self._frames:05d}.png").write_bytes(data)

    def finish(self, attachment: bytes | None) -> None:
        """Write the settings and the attachment."""
        text = settings_text(self._target.metadata)
        (self._folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
        if attachment is not None:
            (self._folder / ATTACHMENT_FILE).write_bytes(attachment)

    def abandon(self) -> None:
        """Nothing is held open."""
