"""Sketches are learned before pictures: flow matching on a few numbers per frame, in a minute or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mocgen.model.config import DiTConfig
from mocgen.model.sketch import SketchModel, normalised
from mocgen.sampling import add_noise
from mocgen.text.vocabulary import Vocabulary

from .compose import word_ids
from .config import SketchTraining
from .data import ClipPool
from .optim import Optimizers
from .state import Deadline, OnStep, learn, step_generator
from .world import PLAIN, Variety, full_caption, scene_captions
from .world.sketches import sketch

NAMED = 0.6  # of the captions name the look; the others speak of the hero
WORDLESS = 0.05  # of the captions are empty


def sketches_of(pool: ClipPool) -> Tensor:
    """The sketches of all shots of the pool, (looks, clips, T, 6)."""
    frames = pool.latents.shape[2]
    return torch.from_numpy(
        np.stack([np.stack([sketch(shot, frames) for shot in shots]) for shots in pool.shots])
    )


def sketch_loss(model: SketchModel, sketches: Tensor, captions: Tensor, generator: torch.Generator) -> Tensor:
    """Squared error of clean sketches (B, T, 6), weighted like that of pictures: see `flow_loss`."""
    clean = normalised(sketches)
    t = torch.rand(len(clean), generator=generator)
    noisy = add_noise(clean, torch.randn(clean.shape, generator=generator), t)
    error = (model(noisy, t, captions) - clean).square().flatten(1).mean(1)
    return (error / ((1 - t).square() + 0.05)).mean()


def train_sketcher(
    config: DiTConfig,
    training: SketchTraining,
    pool: ClipPool,
    vocabulary: Vocabulary,
    *,
    seed: int,
    variety: Variety = PLAIN,
    state: Path,
    save_every: int,
    on_step: OnStep,
    deadline: Deadline,
) -> SketchModel:
    """A network that draws sketches, with averaged weights, learned on the CPU.

    Goes on from `state` if that file exists, with the same result as an uninterrupted run. Raises Paused
    at the deadline.
    """
    torch.manual_seed(seed)
    model = SketchModel(config)
    optimizers = Optimizers(model, (), training.optim)
    sketches = sketches_of(pool).flatten(0, 1)  # (N, T, 6)
    captions = _captions(pool, vocabulary, config, training.captions, variety, seed)  # (N, ways, words)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        shots, ways = (
            torch.randint(size, (training.batch,), generator=generator) for size in captions.shape[:2]
        )
        return sketch_loss(model, sketches[shots], captions[shots, ways], generator)

    learn(
        model,
        optimizers,
        loss_at,
        steps=training.steps,
        state=state,
        save_every=save_every,
        on_step=on_step,
        deadline=deadline,
    )
    return model.eval()


def _captions(
    pool: ClipPool, vocabulary: Vocabulary, config: DiTConfig, ways: int, variety: Variety, seed: int
) -> Tensor:
    """Word ids of some captions of every shot of the pool, (looks · clips, ways, N)."""
    rng = np.random.default_rng(seed)
    lines = list[str]()
    for shot in (shot for shots in pool.shots for shot in shots):
        for _ in range(ways):
            choice = rng.random()
            if choice < WORDLESS:
                lines.append("")
            elif choice < WORDLESS + NAMED:
                lines.append(full_caption(shot, rng, variety))
            else:
                lines.append(scene_captions([shot], "nowhere", rng, variety=variety)[0])
    return word_ids(lines, vocabulary, config).unflatten(0, (-1, ways))
