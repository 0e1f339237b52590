"""Scenes put together from the pool: a hero that comes back, others in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mocgen.model.config import DiTConfig
from mocgen.text.vocabulary import Vocabulary, pad

from .data import ClipPool
from .world import PLAIN, Naming, Variety, scene_captions, scene_prompt

TRIES = 20  # draws for another look
MANY_ENOUGH = 3  # shots for two characters of whom one comes back


@dataclass(frozen=True, kw_only=True)
class Composed:
    """One scene: which clips of the pool it shows, as (cast, clip), their captions and the global prompt."""

    clips: tuple[tuple[int, int], ...]
    captions: tuple[str, ...]
    prompt: str = ""


def compose(
    pool: ClipPool,
    *,
    shots: int,
    distractors: float,
    naming: Naming,
    rng: np.random.Generator,
    variety: Variety = PLAIN,
) -> Composed:
    """A scene of `shots` shots whose first and last show its hero.

    Each shot in between shows another look with a probability drawn from [0, `distractors`]. No clip of
    the hero comes twice unless the pool has too few. A friend, if the scene has one, is seen second, and
    then wherever the hero would be, by half; it may be the one that comes last.
    """
    hero = int(rng.integers(len(pool.shots)))
    count = len(pool.shots[hero])
    order = [*rng.permutation(count), *rng.integers(count, size=max(0, shots - count))]
    share = rng.uniform(0, distractors)
    friend = _friend(pool, hero, shots, rng, variety)
    clips: list[tuple[int, int]] = []
    for number in range(shots):
        between = 0 < number < shots - 1
        if friend is not None and (number == 1 or (number > 1 and rng.random() < 0.5)):
            clips.append((friend, int(rng.integers(len(pool.shots[friend])))))
        elif between and rng.random() < share:
            clips.append(_another(pool, hero, rng))
        else:
            clips.append((hero, int(order[number])))
    specs = [pool.shots[cast][clip] for cast, clip in clips]
    look = None if friend is None else pool.shots[friend][0].look
    prompt = scene_prompt(specs[0].look, rng, friend=look, variety=variety) if naming == "prompt" else ""
    captions = scene_captions(specs, naming, rng, friend=look, variety=variety)
    return Composed(clips=tuple(clips), captions=captions, prompt=prompt)


def _friend(pool: ClipPool, hero: int, shots: int, rng: np.random.Generator, variety: Variety) -> int | None:
    """The cast of a second character that comes back; None if the scene has none or no room for it."""
    if shots < MANY_ENOUGH or not variety.friend or rng.random() >= variety.friend:
        return None
    friend = _another(pool, hero, rng)[0]
    return friend if pool.shots[friend][0].look != pool.shots[hero][0].look else None


def latents_of(pool: ClipPool, scenes: Sequence[Composed]) -> torch.Tensor:
    """Clean latents (B, S, T, C, h, w) fp32 of scenes of S shots."""
    return pool.latents[_indices(scenes)].float()


def objects_of(pool: ClipPool, scenes: Sequence[Composed]) -> torch.Tensor:
    """How much of each latent the object covers, (B, S, T, h, w) in [0, 1]."""
    return pool.objects[_indices(scenes)].float() / 255


def _indices(scenes: Sequence[Composed]) -> tuple[torch.Tensor, torch.Tensor]:  # (B, S) each
    casts, clips = torch.tensor([scene.clips for scene in scenes]).unbind(-1)
    return casts, clips


def _another(pool: ClipPool, hero: int, rng: np.random.Generator) -> tuple[int, int]:
    """A clip of another look than the hero's (of the same one if the pool seems to hold no other)."""
    look = pool.shots[hero][0].look
    for _ in range(TRIES):
        cast = int(rng.integers(len(pool.shots)))
        if pool.shots[cast][0].look != look:
            break
    return cast, int(rng.integers(len(pool.shots[cast])))


def word_ids(captions: Sequence[str], vocabulary: Vocabulary, model: DiTConfig) -> torch.Tensor:
    """Word ids (n, N) of captions, padded alike."""
    rows = [
        vocabulary.padded(caption, multiple=model.caption_multiple, limit=model.caption_limit)
        for caption in captions
    ]
    longest = max(len(row) for row in rows)
    return torch.tensor([pad(row, longest) for row in rows])
