"""Scenes put together from rendered shots of several looks, with captions written afresh each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mocgen.training.world import captions, words
from mocgen.training.world.specs import Look, ShotSpec

Naming = Literal["caption", "prompt", "nowhere"]  # where the words name the look of the hero
NAMED_AGAIN = 0.15  # of the later shots of the hero have captions that name its look


def full_caption(shot: ShotSpec, rng: np.random.Generator) -> str:
    """A new caption that names look, place and motion (one in ten leaves one of them out)."""
    return captions.full_caption(shot.look, shot.place, shot.motion, rng)


def scene_captions(
    shots: Sequence[ShotSpec], naming: Naming, rng: np.random.Generator, *, again: float = NAMED_AGAIN
) -> tuple[str, ...]:
    """Captions of a scene whose hero is what the first shot shows; later captions seldom name it."""
    hero = shots[0].look
    lines = []
    for number, shot in enumerate(shots):
        if shot.look != hero or (number and rng.random() < again):
            lines.append(full_caption(shot, rng))
        elif number == 0 and naming == "caption":
            lines.append(captions.introduction(hero, shot.place, shot.motion, rng))
        else:
            reference = hero_reference(hero, [shot.look for shot in shots[:number]], rng)
            lines.append(captions.sentence(reference, place=shot.place, motion=shot.motion, rng=rng))
    return tuple(lines)


def hero_reference(hero: Look, past: Sequence[Look], rng: np.random.Generator) -> str:
    """A way to speak of the hero that is unambiguous after shots of these looks."""
    ways = list(words.HERO_NAMES)
    if past:
        if past[-1] == hero:
            ways.extend(words.HERO_PRONOUNS)
        if all(look == hero or look.shape != hero.shape for look in past):
            ways.append(words.HERO_BY_SHAPE.format(noun=captions.shape_noun(hero.shape, rng)))
    return ways[0] if rng.random() < 0.3 else ways[rng.integers(len(ways))]
