"""Specs → sketches: what a shot's picture is drawn after (`mocgen.model.sketch`)."""

from __future__ import annotations

import numpy as np

from mocgen.training.world.camera import views
from mocgen.training.world.shapes import Field
from mocgen.training.world.specs import ShotSpec
from mocgen.training.world.tracks import track


def sketch(shot: ShotSpec, frames: int) -> Field:
    """Where the object is in every frame as the camera sees it, float32 (T, 6).

    Centre x and y and radius in frame widths, cosine and sine of the turn, vertical stretch.
    """
    path = track(shot, frames)
    x, y, radius = path.x, path.y, path.radius
    if shot.camera:
        seen = views(shot.camera, path)
        x, y, radius = (x - seen.left) / seen.side, (y - seen.top) / seen.side, radius / seen.side
    values = (x, y, radius, np.cos(path.angle), np.sin(path.angle), path.stretch)
    return np.stack(np.broadcast_arrays(*values), axis=-1).astype(np.float32)
