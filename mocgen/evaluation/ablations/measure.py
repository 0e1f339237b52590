"""What a small model recalls of a character whose look is in no caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.model.attention import Routing
from mocgen.model.dit import NoisyShot
from mocgen.sampling import add_noise, euler_step, noise_levels
from mocgen.training.batches import CLEAN, Batch
from mocgen.training.dit import Pupil
from mocgen.training.probe import LEVEL

from ..rates import Rate
from ..reading import decode, read_shot
from .pool import ReturnPool, draw_others, put_together

AT_ONCE = 32  # scenes in a forward pass
SAMPLING_STEPS = 12


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """Of N returns: classes that the captions were read out as, and the error of the predicted latents."""

    told: Tensor  # (N, 4)
    error: float


def ask(pool: ReturnPool, shots: int) -> Batch:
    """A scene for each character of a pool, the last shot nearly pure noise; a function of its arguments.

    The characters are seen in every shot before alike often.
    """
    generator = torch.Generator().manual_seed(0)
    heroes = torch.arange(len(pool))
    t = torch.full((len(pool), shots), CLEAN)
    t[:, -1] = LEVEL
    noise = torch.randn(len(pool), shots, *pool.latents.shape[2:], generator=generator)
    return put_together(
        pool,
        heroes,
        heroes % (shots - 1),
        draw_others(pool, heroes, shots, generator),
        noise=noise,
        t=t,
        positions=tuple(range(shots)),
        clean=shots - 1,
    )


def with_pasts_swapped(batch: Batch) -> Batch:
    """The same returns, each after the past of another character."""
    past = torch.arange(len(batch.t)).roll(1)
    latents, captions = batch.latents[past], batch.captions[past]
    latents[:, -1], captions[:, -1] = batch.latents[:, -1], batch.captions[:, -1]
    return replace(batch, latents=latents, captions=captions)


@torch.inference_mode()
def recall(pupil: Pupil, batch: Batch, routing: Routing) -> Recalled:
    """Run the model once on every scene."""
    assert pupil.looks is not None
    told, errors = [], []
    for rows in torch.arange(len(batch.t)).split(AT_ONCE):
        past, back = _shots(batch, rows)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = pupil.dit([*past, back], routing=routing)[-1].float()
        told.append(pupil.looks.told()[:, -1])
        errors.append((predicted - batch.latents[rows, -1]).square().flatten(1).mean(1))
    return Recalled(told=torch.cat(told), error=torch.cat(errors).mean().item())


def _shots(batch: Batch, rows: Tensor) -> tuple[list[NoisyShot], NoisyShot]:
    """The clean past and the noisy return of some scenes."""
    shots = [
        NoisyShot(
            index=position,
            caption=batch.captions[rows, s],
            latents=add_noise(batch.latents[rows, s], batch.noise[rows, s], batch.t[rows, s]),
            t=batch.t[rows, s],
            wanted=() if s < batch.clean else None,
        )
        for s, position in enumerate(batch.shots)
    ]
    return shots[:-1], shots[-1]


@torch.inference_mode()
def draw_exact(
    pupil: Pupil, batch: Batch, pool: ReturnPool, base: NativeModel, routing: Routing, count: int
) -> Rate:
    """Draw the first returns of `batch` and read them by the nearest rendering: the rate of exact looks."""
    if not count:
        return Rate.of([])
    rows = torch.arange(count)
    past, back = _shots(batch, rows)
    x = batch.noise[rows, -1]
    for t, t_next in pairwise(noise_levels(SAMPLING_STEPS).tolist()):
        shots = [*past, replace(back, latents=x, t=torch.full((len(rows),), t))]
        x = euler_step(x, pupil.dit(shots, routing=routing)[-1].float(), t, t_next)
    return Rate.of(
        read_shot(decode(latents[None], base), place=shot.place).match.look == shot.look
        for latents, shot in zip(x, pool.back[:count], strict=True)
    )
