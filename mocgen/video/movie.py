"""MP4 (H.264) and WebM (VP9): encoding frames and muxing them, with or without sound."""

from __future__ import annotations

from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from mocgen.video.colour import ColourConverter
from mocgen.video.mp4box import append_attachment
from mocgen.video.output import OutputKind
from mocgen.video.settings_text import settings_text
from mocgen.video.sink import Clock, Target

_SECONDS_PER_KEYFRAME = 3  # players and `extend` seek to key frames
# mbtree: with it x264 gives different files from run to run when pictures are small
_H264 = {"preset": "medium", "crf": "16", "mbtree": "0"}
# qmax bounds the loss of every frame and the chroma offset that of its colours: ≥ 40 dB in RGB, even on noise
_H264_FAITHFUL = {"preset": "veryfast", "crf": "10", "qmax": "12", "mbtree": "0", "chromaoffset": "-3"}
_H264_FAITHFUL_444 = _H264_FAITHFUL | {"chromaoffset": "-9"}  # x264 adds 6 of its own
# H.264 implies that halved chroma sits left, WebM has to say it
_VP9 = {"deadline": "good", "cpu-used": "4", "row-mt": "1", "b": "0", "chroma_sample_location": "left"}
_VP9_MADE = _VP9 | {"crf": "20"}
_VP9_FAITHFUL = _VP9 | {"crf": "4", "qmax": "10"}


class MovieSink:
    """Writes an MP4 or WebM file; `container` is open for the caller to add audio streams before frames."""

    def __init__(self, kind: OutputKind, target: Target) -> None:
        self.target = target
        self.container = _open_container(kind, target)
        self._kind = kind
        self._stream = _add_video(self.container, kind, target)
        self._converter = ColourConverter()
        self._clock = Clock(target.time_base)

    def add(self, frame: VideoFrame, time: Fraction, *, cut: bool = False) -> None:
        """Encode one frame; a cut becomes a key frame."""
        colour = self.target.colour
        picture = self._converter.to_yuv(frame, pixel_format=self._stream.pix_fmt or "", colour=colour)
        picture.pts = self._clock.tick(time)
        picture.time_base = self.target.time_base
        picture.pict_type = PictureType.I if cut else PictureType.NONE
        self.container.mux(self._stream.encode(picture))

    def finish(self, attachment: bytes | None) -> None:
        """Flush the encoder, write the index, append the attachment (MP4 only)."""
        self.container.mux(self._stream.encode(None))
        self.container.close()
        if attachment is not None and self._kind is OutputKind.MP4:
            append_attachment(self.target.part, attachment)

    def abandon(self) -> None:
        """Close the file whatever state it is in."""
        self.container.close()


def _open_container(kind: OutputKind, target: Target) -> OutputContainer:
    # bitexact: no random identity in the file, so equal runs give equal files
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if kind is OutputKind.MP4 else {})
    container = av.open(f"file:{target.part}", "w", format=kind.value[1:], container_options=options)
    container.metadata["comment"] = settings_text(target.metadata)
    if "title" in target.metadata:
        container.metadata["title"] = target.metadata["title"]
    return container


def _add_video(container: OutputContainer, kind: OutputKind, target: Target) -> VideoStream:
    odd = target.width % 2 or target.height % 2  # H.264 cannot halve the chroma of odd sizes
    pixel_format = "yuv420p" if target.halved_chroma and not odd else "yuv444p"
    stream: VideoStream = container.add_stream(
        "libx264" if kind is OutputKind.MP4 else "libvpx-vp9",
        rate=target.fps,
        options=_options(kind, pixel_format, faithful=target.faithful),
        width=target.width,
        height=target.height,
        pix_fmt=pixel_format,
        time_base=target.time_base,
        gop_size=max(12, round(_SECONDS_PER_KEYFRAME * target.fps)),
        colorspace=target.colour.matrix,
        color_primaries=target.colour.primaries,
        color_trc=target.colour.transfer,
        color_range=target.colour.range_tag,
        sample_aspect_ratio=target.pixel_aspect or Fraction(1),
    )
    return stream


def _options(kind: OutputKind, pixel_format: str, *, faithful: bool) -> dict[str, str]:
    if kind is OutputKind.WEBM:
        return _VP9_FAITHFUL if faithful else _VP9_MADE
    if not faithful:
        return _H264
    return _H264_FAITHFUL if pixel_format == "yuv420p" else _H264_FAITHFUL_444
