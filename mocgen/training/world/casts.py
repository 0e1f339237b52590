"""Scenes put together from rendered shots of several looks, with captions written afresh each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mocgen.training.world import captions, synonyms, words
from mocgen.training.world.specs import Look, ShotSpec
from mocgen.training.world.variety import PLAIN, Variety

Naming = Literal["caption", "prompt", "nowhere"]  # where the words name the look of the hero
NAMED_AGAIN = 0.15  # of the later shots of the hero have captions that name its look


def full_caption(shot: ShotSpec, rng: np.random.Generator, variety: Variety = PLAIN) -> str:
    """A new caption that names look, place, motion and camera (some leave one of them out)."""
    return captions.full_caption(shot.look, shot.place, shot.motion, rng, camera=shot.camera, variety=variety)


def scene_captions(
    shots: Sequence[ShotSpec],
    naming: Naming,
    rng: np.random.Generator,
    *,
    again: float = NAMED_AGAIN,
    friend: Look | None = None,
    variety: Variety = PLAIN,
) -> tuple[str, ...]:
    """Captions of a scene whose hero is what the first shot shows; later captions seldom name it.

    So it is with a friend's look.
    """
    hero, lines = shots[0].look, list[str]()
    for number, shot in enumerate(shots):
        past = [earlier.look for earlier in shots[:number]]
        is_first = shot.look not in past
        if shot.look not in (hero, friend) or (not is_first and rng.random() < again):
            lines.append(full_caption(shot, rng, variety))
        elif is_first and naming == "caption":
            form = words.HERO_INTRODUCTION if shot.look == hero else synonyms.FRIEND_INTRODUCTION
            lines.append(
                captions.introduction(
                    shot.look, shot.place, shot.motion, rng, camera=shot.camera, form=form, variety=variety
                )
            )
        else:
            names = words.HERO_NAMES if shot.look == hero else synonyms.FRIEND_NAMES
            lines.append(
                captions.sentence(
                    reference(shot.look, past, rng, names=names, variety=variety),
                    place=shot.place,
                    motion=shot.motion,
                    rng=rng,
                    camera=shot.camera,
                    variety=variety,
                )
            )
    return tuple(lines)


def reference(
    look: Look,
    past: Sequence[Look],
    rng: np.random.Generator,
    *,
    names: Sequence[str] = words.HERO_NAMES,
    variety: Variety = PLAIN,
) -> str:
    """A way to speak of a character of this look and these names that is clear after shots of such looks."""
    ways = list(names)
    if look in past:
        if past[-1] == look:
            ways.extend(words.HERO_PRONOUNS)
        if all(other == look or other.shape != look.shape for other in past):
            ways.append(words.HERO_BY_SHAPE.format(noun=captions.shape_noun(look.shape, rng, variety)))
    return ways[0] if rng.random() < 0.3 else ways[rng.integers(len(ways))]
