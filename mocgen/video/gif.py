"""GIF with one palette that fits the whole video, made in two passes so that memory stays flat."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from mocgen.video.colour import ColourConverter
from mocgen.video.settings_text import settings_text
from mocgen.video.sink import Clock, Target

_PIXELS = VideoFormat("bgr0")  # what both palette filters and the lossless codec take
GIF_MOST_FPS = 100
_DELAY = Fraction(1, GIF_MOST_FPS)  # the clock of GIF, seconds
_SUB_BLOCK = 255  # bytes of text in one sub-block of a comment
_LOOP = b"\x21\xff\x0bNETSCAPE2.0"  # followed by 5 bytes


class GifSink:
    """Keeps the frames in a lossless file while counting their colours, then writes them with the palette."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._kept = target.part.with_suffix(".frames.part.mkv")
        self._bare = target.part.with_suffix(".bare.part.gif")
        self._converter = ColourConverter()
        self._clock = Clock(_DELAY)
        self._store = av.open(f"file:{self._kept}", "w", format="matroska")
        self._stream = self._store.add_stream(
            "ffv1",
            rate=target.fps,
            width=target.width,
            height=target.height,
            pix_fmt=_PIXELS.name,
            time_base=_DELAY,
        )
        self._counter = Graph()
        source = self._counter.add_buffer(
            width=target.width, height=target.height, format=_PIXELS, time_base=_DELAY
        )
        self._counter.link_nodes(source, self._counter.add("palettegen"), self._counter.add("buffersink"))
        self._counter.configure()

    def add(self, frame: VideoFrame, time: Fraction, *, cut: bool = False) -> None:
        """Keep one frame and count its colours."""
        picture = self._converter.to_rgb(frame).reformat(format=_PIXELS.name)
        picture.pts = self._clock.tick(time)
        picture.time_base = _DELAY
        self._counter.vpush(picture)
        list(_pulled(self._counter))  # nothing comes yet, but without being asked the filter would queue up
        self._store.mux(self._stream.encode(picture))

    def finish(self, attachment: bytes | None) -> None:
        """Write the GIF; an attachment is not stored."""
        self._store.mux(self._stream.encode(None))
        self._store.close()
        self._counter.vpush(None)
        self._write(self._counter.vpull())
        _copy_with_comment(self._bare, self._target.part, settings_text(self._target.metadata).encode())
        self._kept.unlink()
        self._bare.unlink()

    def abandon(self) -> None:
        """Close and remove what was kept."""
        try:
            self._store.close()
        finally:
            self._kept.unlink(missing_ok=True)
            self._bare.unlink(missing_ok=True)

    def _write(self, palette: VideoFrame) -> None:
        target = self._target
        with (
            av.open(f"file:{self._kept}", "r") as store,
            av.open(f"file:{self._bare}", "w", format="gif", container_options={"loop": "0"}) as gif,
        ):
            stream = gif.add_stream(
                "gif",
                rate=target.fps,
                width=target.width,
                height=target.height,
                pix_fmt="pal8",
                time_base=_DELAY,
            )
            for picture in _paint(store.decode(video=0), palette, target):
                gif.mux(stream.encode(picture))
            gif.mux(stream.encode(None))


def _paint(frames: Iterator[VideoFrame], palette: VideoFrame, target: Target) -> Iterator[VideoFrame]:
    """Frames in the colours of the palette, dithered."""
    graph = Graph()
    pictures = graph.add_buffer(width=target.width, height=target.height, format=_PIXELS, time_base=_DELAY)
    palettes = graph.add_buffer(
        width=palette.width, height=palette.height, format=palette.format, time_base=_DELAY
    )
    painter = graph.add("paletteuse", "dither=sierra2_4a")
    pictures.link_to(painter, 0, 0)
    palettes.link_to(painter, 0, 1)
    painter.link_to(graph.add("buffersink"))
    graph.configure()
    palette.pts = 0
    palettes.push(palette)
    palettes.push(None)
    for frame in frames:
        frame.pts = round((frame.time or 0) / _DELAY)
        frame.time_base = _DELAY
        pictures.push(frame)
        yield from _pulled(graph)
    pictures.push(None)
    yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):  # no more for now, no more at all
            return


def _copy_with_comment(bare: Path, path: Path, text: bytes) -> None:
    """Copy a GIF and put a comment extension (GIF89a, section 24), which the muxer cannot write, in its head.

    It stands after the screen descriptor, the global colours and the loop count; at the end of the file some
    readers would take it for one more picture.
    """
    blocks = [text[start : start + _SUB_BLOCK] for start in range(0, len(text), _SUB_BLOCK)]
    with bare.open("rb") as source, path.open("wb") as target:
        screen = source.read(13)
        target.write(screen)
        if screen[10] & 0x80:
            target.write(source.read(3 * 2 ** ((screen[10] & 7) + 1)))
        loop = source.read(len(_LOOP) + 5)
        if loop.startswith(_LOOP):
            target.write(loop)
        else:
            source.seek(-len(loop), 1)
        target.write(b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0")
        shutil.copyfileobj(source, target)
