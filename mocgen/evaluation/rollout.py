"""Long roll-outs: does the picture drift, does the hero stay, are cuts where they belong?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.settings import Settings
from mocgen.training.world import ShotSpec, render_shot
from mocgen.video import find_cuts

from .filming import film
from .histories import rendered_history
from .rates import Rate
from .reading import look_agreement, read_shot
from .requests import RolloutRequest
from .scenes import rollout_shots

BINS = 5  # of shots along a roll-out, for recall
DRIFT_SPAN = 0.2  # of a roll-out at each end: their difference in brightness is the drift

OnProgress = Callable[[int, int], None]  # shots done, of how many


@dataclass(frozen=True, kw_only=True)
class RolledShot:
    """One shot of a roll-out, numbered from 1."""

    number: int
    brightness: float  # mean of the frames minus that of the true shot; 1 is the whole range
    agreement: dict[str, bool] | None  # with the hero's look, where it is the hero's shot
    picture: Tensor  # (H, W, 3) uint8, a frame from the middle


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """What roll-outs of one length amount to."""

    settings: Settings
    revision: str
    steps: int
    shots: int
    rollouts: int
    drift: float  # brightness of the last shots minus that of the first, as a share of the range
    drift_low: float
    drift_high: float
    recall: tuple[tuple[int, int, Rate], ...]  # first shot, last shot, exact look of the hero
    colours: tuple[tuple[int, int, Rate], ...]  # the same for its colours
    cuts_found: Rate  # borders of shots at which a cut is seen
    steady: Rate  # other transitions, at which none is
    rolled: tuple[tuple[RolledShot, ...], ...]
    heroes: tuple[Tensor, ...]  # of each roll-out, a frame (H, W, 3) uint8 of the shot it starts from
    elapsed_seconds: float


def measure_rollout(
    model: NativeModel, request: RolloutRequest, settings: Settings, *, on_progress: OnProgress
) -> RolloutReport:
    """Roll out scenes, each after a rendered shot of its hero.

    Raises UsageError for settings that the model cannot carry out.
    """
    start, shots, rollouts = time.monotonic(), request.shots, request.samples
    rolled, heroes, cuts, steady = [], [], [], []
    for number in range(rollouts):
        specs = rollout_shots(settings.seed, number, shots)
        noise = replace(settings, seed=(settings.seed + number) % 2**31)

        def shown(done: int, number: int = number) -> None:
            on_progress(number * shots + done, rollouts * shots)

        frames = _roll_out(model, specs, noise, shown)
        truth = [_true_frames(spec, model) for spec in specs[1:]]
        rolled.append(_judge(specs, frames, truth))
        heroes.append(_true_frames(specs[0], model)[model.defaults.frames // 2])
        found, quiet = _transitions(frames)
        cuts += found
        steady += quiet
    drift, reach = _drift(rolled)
    return RolloutReport(
        settings=settings,
        revision=model.revision,
        steps=settings.steps or model.defaults.steps,
        shots=shots,
        rollouts=rollouts,
        drift=drift,
        drift_low=drift - reach,
        drift_high=drift + reach,
        recall=_along(rolled, shots, "exact"),
        colours=_along(rolled, shots, "colours"),
        cuts_found=Rate.of(cuts),
        steady=Rate.of(steady),
        rolled=tuple(rolled),
        heroes=tuple(heroes),
        elapsed_seconds=time.monotonic() - start,
    )


def _roll_out(
    model: NativeModel, specs: Sequence[ShotSpec], settings: Settings, shown: Callable[[int], None]
) -> list[Tensor]:
    """Frames (T, H, W, 3) uint8 of every shot after the first, which is the history."""
    history = rendered_history(specs[:1], model)
    run = film(model, [spec.caption for spec in specs[1:]], settings, history=history)
    frames = []
    shown(0)
    for shot in run.shots():
        frames.append(shot.pixels)
        shown(len(frames))
    return frames


def _true_frames(spec: ShotSpec, model: NativeModel) -> Tensor:
    frames, size = model.defaults.frames, model.codec.config.size
    return torch.from_numpy(render_shot(spec, frames=frames, size=size))


def _judge(
    specs: Sequence[ShotSpec], frames: Sequence[Tensor], truth: Sequence[Tensor]
) -> tuple[RolledShot, ...]:
    hero = specs[0].look
    rolled = []
    for number, (spec, pixels, true) in enumerate(zip(specs[1:], frames, truth, strict=True), start=1):
        agreement = None
        if spec.look == hero:
            agreement = look_agreement(read_shot(pixels, place=spec.place).match.look, hero)
        brightness = float(pixels.float().mean() - true.float().mean()) / 255
        picture = pixels[len(pixels) // 2].clone()
        rolled.append(RolledShot(number=number, brightness=brightness, agreement=agreement, picture=picture))
    return tuple(rolled)


def _drift(rolled: Sequence[Sequence[RolledShot]]) -> tuple[float, float]:
    """Difference in brightness between the two ends, and half its 95 % interval (shots independent)."""
    span = max(1, round(DRIFT_SPAN * len(rolled[0])))
    first = np.array([shot.brightness for shots in rolled for shot in shots[:span]])
    last = np.array([shot.brightness for shots in rolled for shot in shots[-span:]])
    error = np.sqrt(sum(end.var(ddof=1) / len(end) for end in (first, last) if len(end) > 1))
    return float(last.mean() - first.mean()), float(1.96 * error)


def _along(
    rolled: Sequence[Sequence[RolledShot]], shots: int, aspect: str
) -> tuple[tuple[int, int, Rate], ...]:
    """Recall of the hero in stretches of the roll-out; those without its shots are left out."""
    bounds = np.linspace(0, shots, BINS + 1).round().astype(int)
    found = []
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        agreements = [
            shot.agreement for scene in rolled for shot in scene[begin:end] if shot.agreement is not None
        ]
        if agreements:
            found.append((begin + 1, end, Rate.of(one[aspect] for one in agreements)))
    return tuple(found)


def _transitions(shots: Sequence[Tensor]) -> tuple[list[bool], list[bool]]:
    """For every border of shots, whether a cut is seen; for every other transition, whether none is."""
    seen = find_cuts(frame for shot in shots for frame in shot.numpy())
    cuts, steady, first = [], [], 0
    for shot in shots:
        cuts.append(seen[first])
        steady += [not cut for cut in seen[first + 1 : first + len(shot)]]
        first += len(shot)
    return cuts[1:], steady
