"""Shots → frames: background once, then shadow and a shaded, outlined object per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mocgen.training.world import camera, patterns, places, shapes
from mocgen.training.world.canvas import rgb
from mocgen.training.world.shapes import Field
from mocgen.training.world.specs import Look, ShotSpec
from mocgen.training.world.tracks import Track, track

PALETTE = {
    "red": rgb("e8232e"),
    "orange": rgb("ff8a14"),
    "yellow": rgb("ffdd2b"),
    "green": rgb("35b83f"),
    "cyan": rgb("35dbe6"),
    "blue": rgb("2450e8"),
    "purple": rgb("8a34c8"),
    "pink": rgb("ff8cc0"),
    "white": rgb("fafafa"),
    "black": rgb("1a1a22"),
}
OUTLINE = 0.017  # width, in frame widths
LIGHT_OUTLINE = rgb("a9adbd")  # around black, which a dark line would swallow
SHADOW = 0.42  # darkest value
REACH = 1.2  # half side of the window around an object, in radii


@dataclass(frozen=True, kw_only=True)
class _Windows:
    """Square cut-outs around the object, all of one side, inside the frame."""

    top: NDArray[np.int64]  # (T,)
    left: NDArray[np.int64]  # (T,)
    side: int
    u: Field  # (T, S, S) pixel centres in object coordinates, not turned
    v: Field  # (T, S, S)


def _windows(path: Track, size: int) -> _Windows:
    side = min(size, int(np.ceil(2 * REACH * path.radius.max() * size)) + 2)
    left = np.clip(np.round(path.x * size - side / 2).astype(np.int64), 0, size - side)
    top = np.clip(np.round(path.y * size - side / 2).astype(np.int64), 0, size - side)
    steps = np.arange(side, dtype=np.float32) + 0.5
    u = (((left[:, None] + steps) / size - path.x[:, None]) / path.radius[:, None]).astype(np.float32)
    height = path.radius * path.stretch
    v = (((top[:, None] + steps) / size - path.y[:, None]) / height[:, None]).astype(np.float32)
    shape = (len(left), side, side)
    return _Windows(
        top=top,
        left=left,
        side=side,
        u=np.broadcast_to(u[:, None, :], shape),
        v=np.broadcast_to(v[:, :, None], shape),
    )


def _turned(windows: _Windows, path: Track) -> tuple[Field, Field]:
    """Coordinates in the turned object."""
    if not path.angle.any():
        return windows.u, windows.v
    cos, sin = np.cos(path.angle)[:, None, None], np.sin(path.angle)[:, None, None]
    return windows.u * cos + windows.v * sin, windows.v * cos - windows.u * sin


def _cover(distance: Field, pixels: Field) -> Field:
    """Share of each pixel at a negative distance; `pixels` (T, 1, 1): pixels per unit of distance."""
    return np.clip(0.5 - distance * pixels, 0, 1)


def _paint_object(look: Look, path: Track, windows: _Windows, size: int) -> tuple[Field, Field]:
    """(T, S, S, 3) colours and (T, S, S) coverage of the object in its windows."""
    u, v = _turned(windows, path)
    pixels = (path.radius * size)[:, None, None]
    depth = -shapes.distance(look.shape, u, v)
    first = np.array(PALETTE[look.color], np.float32)
    color = np.broadcast_to(first, (*depth.shape, 3))
    if look.color2 is not None:
        second = np.array(PALETTE[look.color2], np.float32)
        mix = _cover(patterns.distance(look.pattern, look.shape, u, v), pixels)[..., None]
        color = first + mix * (second - first)
    toward_light = -(0.5 * windows.u + 0.8 * windows.v)  # (T, S, S)
    bevel = np.exp(np.minimum(0, -depth) / 0.14)
    light = 0.12 * toward_light + 0.3 * bevel * np.clip(toward_light, -0.9, 0.6)
    color = np.where(
        light[..., None] > 0, color + light[..., None] * (1 - color), color * (1 + light[..., None])
    )
    glint_u, glint_v = shapes.GLINT[look.shape]
    glint = 0.75 * np.exp(-((windows.u - glint_u) ** 2 + (windows.v - glint_v) ** 2) / 0.022)
    color = color + glint[..., None] * (1 - color)
    width = np.minimum(OUTLINE / path.radius, 0.16)[:, None, None]
    line = (1 - _cover(width - depth, pixels))[..., None]
    outline = LIGHT_OUTLINE if "black" in (look.color, look.color2) else tuple(0.22 * first)
    color = color + line * (np.array(outline, np.float32) - color)
    return color, _cover(-depth, pixels)


def _cast_shadow(frames: NDArray[np.float32], path: Track) -> None:
    """Darken the ground under the object; the higher it is, the wider and fainter the shadow."""
    size = frames.shape[1]
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    height = np.clip(path.ground - path.y - path.radius, 0, 1)
    spread = path.radius * (0.95 + 0.5 * height)
    strength = SHADOW / (1 + 3 * height)
    first, last = int((path.ground - 0.1) * size), min(size, int((path.ground + 0.1) * size) + 1)
    across = np.exp(-(np.abs((centres - path.x[:, None]) / spread[:, None]) ** 3))  # (T, W)
    down = np.exp(-(((centres[first:last] - path.ground) / (0.16 * spread[:, None])) ** 2))  # (T, rows)
    shade = strength[:, None, None] * down[:, :, None] * across[:, None, :]
    frames[:, first:last] *= 1 - shade[..., None]


def render_shot(shot: ShotSpec, *, frames: int = 8, size: int = 96) -> NDArray[np.uint8]:
    """A shot's frames, uint8 (frames, size, size, 3)."""
    path = track(shot, frames)
    if shot.camera:
        scene = _paint_scene(shot, path, camera.FINER * size)
        video = camera.see(scene, camera.views(shot.camera, path), size)
    else:
        video = _paint_scene(shot, path, size)
    return (np.clip(video, 0, 1) * 255 + 0.5).astype(np.uint8)


def _paint_scene(shot: ShotSpec, path: Track, size: int) -> NDArray[np.float32]:
    """All of the scene in every frame, (T, size, size, 3)."""
    background = places.paint(shot.place, shot.pose.backdrop, size)
    video = np.repeat(background[None], len(path.x), axis=0)  # (T, H, W, 3)
    if shot.place != "outer space":
        _cast_shadow(video, path)
    windows = _windows(path, size)
    color, cover = _paint_object(shot.look, path, windows, size)
    for t, (top, left) in enumerate(zip(windows.top, windows.left, strict=True)):
        patch = video[t, top : top + windows.side, left : left + windows.side]
        patch += cover[t, ..., None] * (color[t] - patch)
    return video


def object_mask(shot: ShotSpec, *, frames: int = 8, size: int = 96) -> NDArray[np.float32]:
    """How much of each pixel the object covers, 0..1: float32 (frames, size, size)."""
    path = track(shot, frames)
    if shot.camera:
        scene = _mask_scene(shot, path, camera.FINER * size)
        return camera.see(scene, camera.views(shot.camera, path), size)
    return _mask_scene(shot, path, size)


def _mask_scene(shot: ShotSpec, path: Track, size: int) -> NDArray[np.float32]:
    """How much of each pixel of the scene the object covers, (T, size, size)."""
    windows = _windows(path, size)
    distance = shapes.distance(shot.look.shape, *_turned(windows, path))
    cover = _cover(distance, (path.radius * size)[:, None, None])
    mask = np.zeros((len(path.x), size, size), np.float32)
    for t, (top, left) in enumerate(zip(windows.top, windows.left, strict=True)):
        mask[t, top : top + windows.side, left : left + windows.side] = cover[t]
    return mask
