"""Showing small pictures large: a good scaler for finished RGB frames."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter


def resample_frames(frames: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Scale uint8 RGB frames (T, H, W, 3) to size (width, height) with a Lanczos filter.

    Returns uint8 (T, height, width, 3); the same array when the size already fits. The three colours are
    scaled as three independent planes, so nothing is lost in a detour through YUV.
    """
    width, height = size
    if frames.shape[1:3] == (height, width):
        return frames
    scaler = VideoReformatter()
    result = np.empty((len(frames), height, width, 3), np.uint8)
    for picture, target in zip(frames, result, strict=True):
        planes = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv444p", channel_last=True)
        planes.color_range = ColorRange.JPEG
        scaled = scaler.reformat(
            planes,
            width=width,
            height=height,
            interpolation=Interpolation.LANCZOS | Interpolation.ACCURATE_RND,
            threads=1,
        )
        target[:] = scaled.to_ndarray(channel_last=True)
    return result
