"""Sizes and lengths that a Wan checkpoint can make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from mocgen.errors import UsageError
from mocgen.video_model import ShotLength, Size


def check_size(size: Size, stride: int) -> Size:
    """The size, in pixels; raises UsageError naming the nearest one if it is no multiple of the stride."""
    if any(side % stride for side in size):
        width, height = (max(stride, round(side / stride) * stride) for side in size)
        raise UsageError(
            f"size {size[0]}x{size[1]} cannot be reached: width and height must be multiples of {stride} "
            f"with this model; try --size {width}x{height}"
        )
    return size


def fit_size(clip: Size, own: Size, stride: int) -> Size:
    """The clip's shape with about as many pixels as the model's own size."""
    scale = math.sqrt(own[0] * own[1] / (clip[0] * clip[1]))
    width, height = (max(stride, round(side * scale / stride) * stride) for side in clip)
    return width, height


def shot_lengths(
    seconds: Sequence[float | None], *, frames: int, fps: int, temporal: int, after_clip: bool
) -> list[ShotLength]:
    """Whole latent frames, as many as come nearest to what is asked for.

    A scene is one sequence of latents: the very first stands for one frame, every other for `temporal`.
    frames: of a shot whose length is not asked for (None), temporal · n + 1.
    """
    lengths = []
    for number, asked in enumerate(seconds):
        opens = number == 0 and not after_clip
        wanted = frames - (0 if opens else 1) if asked is None else asked * fps
        latents = round((wanted - 1) / temporal) + 1 if opens else max(1, round(wanted / temporal))
        shown = temporal * (latents - 1) + 1 if opens else temporal * latents
        lengths.append(ShotLength(latents=latents, seconds=Fraction(shown, fps)))
    return lengths
