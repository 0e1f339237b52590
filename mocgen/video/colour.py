"""What the numbers in a frame mean as colours, and exact conversion between YUV and RGB by swscale."""

from __future__ import annotations

from dataclasses import dataclass

from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

UNSPECIFIED = 2  # "unspecified" in the tables of ITU-T H.273: matrix, primaries, transfer
_BT709 = 1
_BT601 = 5
# H.273 matrix → the numbers of swscale, which knows these only
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True, kw_only=True)
class Colour:
    """Colour tags of a video as in ITU-T H.273; `full_range` None means untagged (taken as limited)."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool | None = None

    @property
    def range_tag(self) -> ColorRange:
        """The range as libav counts it."""
        if self.full_range is None:
            return ColorRange.UNSPECIFIED
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    @property
    def sample_range(self) -> ColorRange:
        """The range to compute with: untagged video is limited."""
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    def swscale_matrix(self, width: int, height: int) -> int:
        """The matrix to compute with; untagged video is BT.601 up to 576 lines and BT.709 above."""
        guess = _BT709 if width >= 1280 or height > 576 else _BT601
        return _SWSCALE_MATRIX.get(self.matrix, guess)


BT709 = Colour(matrix=_BT709, primaries=_BT709, transfer=_BT709, full_range=False)


def is_rgb(pixel_format: VideoFormat) -> bool:
    """Whether pixels are red, green and blue (directly or by palette) rather than luma and chroma."""
    return pixel_format.is_rgb or pixel_format.has_palette


def colour_of(frame: VideoFrame) -> Colour:
    """The colour tags of a decoded frame; RGB frames are given those of the YUV they become, BT.709."""
    if is_rgb(frame.format):
        return BT709
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    limited = frame.color_range == ColorRange.MPEG
    return Colour(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=True if full else False if limited else None,
    )


class ColourConverter:
    """Changes pixel format and size of frames; keeps the scaler's tables from frame to frame."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def to_rgb(self, frame: VideoFrame, *, size: tuple[int, int] | None = None) -> VideoFrame:
        """A frame as rgb24, scaled to size (width, height) if given: area when smaller, else bicubic."""
        colour = colour_of(frame)
        width, height = size or (frame.width, frame.height)
        smaller = width < frame.width or height < frame.height
        return self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=colour.swscale_matrix(frame.width, frame.height),
            src_color_range=ColorRange.JPEG if is_rgb(frame.format) else colour.sample_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=(Interpolation.AREA if smaller else Interpolation.BICUBIC) | EXACT,
            threads=1,
        )

    def to_yuv(self, frame: VideoFrame, *, pixel_format: str, colour: Colour) -> VideoFrame:
        """A frame as `pixel_format` with the matrix and range of `colour`.

        YUV frames are taken to be of that colour already: they change format, never matrix or range.
        """
        matrix = colour.swscale_matrix(frame.width, frame.height)
        return self._scaler.reformat(
            frame,
            format=pixel_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if is_rgb(frame.format) else colour.sample_range,
            dst_color_range=colour.sample_range,
            interpolation=Interpolation.BICUBIC | EXACT,
            threads=1,
        )
