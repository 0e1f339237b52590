"""Frames → what they show: place, look and motion, each by its nearest rendering."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.codec.embedded import to_pixels, to_unit_range
from mocgen.training.world import Look, ShotSpec, render_shot

from .backdrops import read_place
from .matcher import Match, match_look
from .motion import read_motion

ATTRIBUTES = ("place", "colours", "shape", "motion", "pattern")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a shot's frames show."""

    place: str
    motion: str
    match: Match


def read_shot(pixels: Tensor, *, place: str | None = None) -> Reading:
    """pixels: (T, H, W, 3) uint8. A place that is given is not looked for, but taken for granted."""
    frames = pixels.movedim(-1, 1).float() / 255
    place = place or read_place(frames)
    match = match_look(frames, place)
    return Reading(place=place, motion=read_motion(match, place), match=match)


def agreement(reading: Reading, shot: ShotSpec) -> dict[str, bool]:
    """Which of `ATTRIBUTES` a shot shows as its spec has them."""
    looks = look_agreement(reading.match.look, shot.look)
    found = {"place": reading.place == shot.place, "motion": reading.motion == shot.motion} | looks
    return {name: found[name] for name in ATTRIBUTES}


def look_agreement(found: Look, wanted: Look) -> dict[str, bool]:
    """What two looks share: colours are a pair without order, any_order is all but the order of colours."""
    parts = {
        "shape": found.shape == wanted.shape,
        "pattern": found.pattern == wanted.pattern,
        "colours": {found.color, found.color2} == {wanted.color, wanted.color2},
    }
    return {"exact": found == wanted, "any_order": all(parts.values())} | parts


@torch.inference_mode()
def encode_true(shot: ShotSpec, model: NativeModel) -> Tensor:
    """A shot's rendered frames as latents (1, T, C, h, w)."""
    pixels = torch.from_numpy(render_shot(shot, frames=model.defaults.frames, size=model.codec.config.size))
    weight = next(model.codec.parameters())
    return model.codec.encode(to_unit_range(pixels).to(weight.device, weight.dtype)).float().cpu()[None]


@torch.inference_mode()
def decode(latents: Tensor, model: NativeModel) -> Tensor:
    """Latents (1, T, C, h, w) → frames (T, H, W, 3) uint8."""
    weight = next(model.codec.parameters())
    return to_pixels(model.codec.decode(latents[0].to(weight.device, weight.dtype))).cpu()
