"""Camera moves: which part of the scene each frame shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mocgen.training.world import shapes
from mocgen.training.world.shapes import Field
from mocgen.training.world.tracks import Track

PANS = ("pans left", "pans right")
ZOOMS = ("zooms in", "zooms out")
CAMERAS = (*PANS, *ZOOMS)

PAN_SIDE = 0.78  # of what a panning camera sees, in frame sides
PAN_DROP = 0.75  # how far down it looks: 0 at the top of the scene, 1 at its bottom
CLOSE_SIDE = 0.62  # of what a camera sees from close by
FINER = 2  # scenes are painted with this many times the pixels, so that what comes close is sharp


@dataclass(frozen=True, kw_only=True)
class Views:
    """Squares of the scene, one a frame: left and top edge and side, all (T,), in sides of the scene."""

    left: Field
    top: Field
    side: Field


def fitting_cameras(motion: str) -> tuple[str, ...]:
    """The camera moves under which a motion can still be told, and its object stays in the picture.

    A pan beside something that crosses the frame, or a zoom on something that grows, could not be told.
    """
    if motion in ("moves left", "moves right"):
        return ZOOMS
    return CAMERAS if motion in ("spins", "stands still") else PANS


def views(camera: str, path: Track) -> Views:
    """What a camera sees of an object's path; it moves steadily, and zooms on the object."""
    time = np.linspace(0, 1, len(path.x), dtype=np.float32)
    if camera in PANS:
        return _pan(time if camera == "pans right" else 1 - time, path)
    side = CLOSE_SIDE ** (time if camera == "zooms in" else 1 - time)  # the same factor from frame to frame
    return Views(
        left=np.clip(path.x - side / 2, 0, 1 - side),
        top=np.clip(path.y - side / 2, 0, 1 - side),
        side=side,
    )


def _pan(way: Field, path: Track) -> Views:
    """A view across the scene (`way`: 0 at its left, 1 at its right), high enough for the object."""
    reach = path.radius * shapes.TALLEST
    highest, lowest = float((path.y - reach).min()), float((path.y + reach).max())
    width = min(1.0, max(PAN_SIDE, lowest - highest))
    top = min(max(PAN_DROP * (1 - width), lowest - width), max(0.0, highest), 1 - width)
    side = np.full_like(way, width)
    return Views(left=(1 - width) * way, top=np.full_like(way, top), side=side)


def see(scene: Field, seen: Views, size: int) -> NDArray[np.float32]:
    """Pictures (T, size, size, …) of the squares seen of a scene (T, S, S, …): means over pixels."""
    frames = []
    for frame, left, top, side in zip(scene, seen.left, seen.top, seen.side, strict=True):
        rows = _shares(top, side, size, len(frame))
        columns = _shares(left, side, size, len(frame))
        frames.append(np.einsum("ys,st...,xt->yx...", rows, frame, columns, optimize=True))
    return np.stack(frames).astype(np.float32)


def _shares(start: float, side: float, size: int, fine: int) -> NDArray[np.float32]:
    """(size, fine): how much each pixel of the scene counts in each pixel of the picture."""
    edges = (start + side * np.arange(size + 1) / size) * fine
    pixels = np.arange(fine)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
