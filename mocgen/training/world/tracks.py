"""Motions: where the object is in every frame, in normalised time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mocgen.training.world import places, shapes
from mocgen.training.world.shapes import Field
from mocgen.training.world.specs import ShotSpec

TRAVEL = 0.21  # half the way of a moving object, in frame widths
SMALLEST = 1 / 6  # diameter from which an object grows
LARGEST = 0.48  # diameter to which it grows
HOPS, HOP_HEIGHT, SQUASH = 2, 0.32, 0.14
HEADROOM = 0.03  # between the top of a hop and the edge of the frame
CIRCLE_RADIUS, CIRCLE_HEIGHT = 0.15, 0.46
TURNS = 0.6


@dataclass(frozen=True, kw_only=True)
class Track:
    """Centre, radius (in frame widths), angle (radians, clockwise) and vertical stretch; all (T,)."""

    x: Field
    y: Field
    radius: Field
    angle: Field
    stretch: Field
    ground: float  # height of the shadow, frame heights from the top


def track(shot: ShotSpec, frames: int) -> Track:
    """The path of a shot's object over `frames` frames; the motion spans the whole shot."""
    time = np.linspace(0, 1, frames, dtype=np.float32)
    still = np.ones_like(time)
    pose = shot.pose
    ground = places.GROUND[shot.place]
    foot = ground - places.HOVER[shot.place] - pose.lift
    x, angle, stretch = (0.5 + pose.x) * still, 0 * still, still
    radius = pose.size / 2 * still
    if shot.motion == "grows":
        radius = (SMALLEST + (LARGEST - SMALLEST) * time) / 2
    y = foot - shapes.FOOT[shot.look.shape] * radius
    if shot.motion in ("moves left", "moves right"):
        way = TRAVEL * (2 * time - 1)
        x = 0.5 + pose.x / 4 + (way if shot.motion == "moves right" else -way)
    elif shot.motion == "bounces":
        hop_height = np.minimum(HOP_HEIGHT, y - shapes.TALLEST * radius - HEADROOM)
        hop = (HOPS * time + pose.phase) % 1
        height = 4 * hop * (1 - hop)
        stretch = 1 - SQUASH * np.maximum(0, 1 - 3 * height)
        y = foot - shapes.FOOT[shot.look.shape] * radius * stretch - hop_height * height
    elif shot.motion == "flies in a circle":
        turn = 2 * np.pi * (time * (frames - 1) / frames + pose.phase)
        x = 0.5 + pose.x / 2 + CIRCLE_RADIUS * np.cos(turn)
        y = CIRCLE_HEIGHT - pose.lift / 2 + CIRCLE_RADIUS * np.sin(turn)
    elif shot.motion == "spins":
        angle = 2 * np.pi * (TURNS * time + 0.1 * pose.phase)
        y = foot - shapes.TALLEST * radius
    return Track(x=x, y=y, radius=radius, angle=angle, stretch=stretch, ground=ground)
