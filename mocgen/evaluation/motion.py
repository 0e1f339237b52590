"""Where the object was found in every frame → its motion: the nearest track of the world."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mocgen.training.world import MOTIONS, Pose, ShotSpec, tracks

from .matcher import Match

PHASES = 12  # of periodic motions that are tried
SPREAD = 0.02  # of a found centre, in frame widths
SPREAD_RADIUS = 0.1  # of the logarithm of a found radius


def read_motion(match: Match, place: str) -> str:
    """The motion whose track, moved as a whole, lies nearest to where the object was found."""
    if match.spins:
        return "spins"
    misfits = {motion: _misfit(match, place, motion) for motion in MOTIONS if motion != "spins"}
    return min(misfits, key=lambda motion: misfits[motion])


def _misfit(match: Match, place: str, motion: str) -> float:
    found = _features(match.where)
    radius = float(match.where[:, 2].median())
    misfits = []
    for phase in np.arange(PHASES) / PHASES if motion in ("bounces", "flies in a circle") else (0.0,):
        pose = Pose(x=0.0, lift=0.0, size=2 * radius, phase=float(phase), backdrop=0)
        shot = ShotSpec(look=match.look, place=place, motion=motion, pose=pose, caption="", full_caption="")
        path = tracks.track(shot, len(found))
        expected = _features(torch.from_numpy(np.stack((path.x, path.y, path.radius), axis=1)).float())
        apart = found - expected
        misfits.append(float((apart - apart.median(dim=0).values).square().clamp(max=25).sum()))
    return min(misfits)


def _features(where: Tensor) -> Tensor:
    """(T, 3) centre and radius → the same in units of their spread."""
    return torch.cat((where[:, :2] / SPREAD, where[:, 2:].log() / SPREAD_RADIUS), dim=1)
