"""Many scenes, drawn and rendered in parallel, in a fixed order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mocgen.training.world.render import render_shot
from mocgen.training.world.scenes import sample_cast, sample_scene
from mocgen.training.world.specs import SceneSpec
from mocgen.training.world.variety import PLAIN, Variety

Rendered = tuple[SceneSpec, NDArray[np.uint8]]
WAITING_PER_WORKER = 8  # scenes under way; bounds the memory when the consumer is slow


class _Job(NamedTuple):
    seed: int
    number: int
    shots: int
    frames: int
    size: int
    held_out: bool
    casts: bool
    variety: Variety


def _render(job: _Job) -> Rendered:
    rng = np.random.default_rng((job.seed, job.number))
    if job.casts:
        scene = sample_cast(rng, clips=job.shots, held_out=job.held_out, variety=job.variety)
    else:
        scene = sample_scene(rng, shots=job.shots, held_out=job.held_out)
    return scene, np.stack([render_shot(shot, frames=job.frames, size=job.size) for shot in scene.shots])


def render_pool(
    seed: int,
    *,
    scenes: int,
    shots: int,
    frames: int,
    size: int,
    workers: int,
    held_out: bool = False,
    casts: bool = False,
    variety: Variety = PLAIN,
) -> Iterator[Rendered]:
    """Scenes with their frames, uint8 (shots, frames, size, size, 3), in order.

    Scene i depends only on (seed, i) and the sizes asked for. `workers` = 1 renders in this process.
    With `casts` every "scene" shows one look in all of its shots, with as much variety as asked for.
    """
    jobs = (_Job(seed, index, shots, frames, size, held_out, casts, variety) for index in range(scenes))
    if workers <= 1:
        yield from map(_render, jobs)
        return
    with multiprocessing.get_context().Pool(workers) as pool:
        under_way = deque(
            pool.apply_async(_render, (job,)) for job in islice(jobs, workers * WAITING_PER_WORKER)
        )
        while under_way:
            rendered = under_way.popleft().get()
            under_way.extend(pool.apply_async(_render, (job,)) for job in islice(jobs, 1))
            yield rendered
