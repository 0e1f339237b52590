"""Decoded frames as players show them: RGB arrays, turned by the quarter turns that the clip asks for."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame

from mocgen.video.colour import ColourConverter


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns (0 to 3) by which players turn the stored frame."""
    return round(frame.rotation / 90) % 4


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """(width, height) of the frame as displayed."""
    return (frame.height, frame.width) if quarter_turns(frame) % 2 else (frame.width, frame.height)


def upright_rgb(
    frame: VideoFrame, converter: ColourConverter, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The frame as displayed, uint8 RGB (H, W, 3), scaled to size (width, height) if given."""
    turns = quarter_turns(frame)
    stored = size[::-1] if size is not None and turns % 2 else size
    picture = converter.to_rgb(frame, size=stored).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))
