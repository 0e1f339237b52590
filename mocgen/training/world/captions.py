"""Specs → sentences: synonyms, word orders, and now and then an attribute left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mocgen.training.world import words
from mocgen.training.world.specs import Look

USUAL_SHARE = 0.5  # of choices that take the first, usual way to say something
INCOMPLETE_SHARE = 0.1  # of full captions that leave one attribute out


def _way(rng: np.random.Generator, ways: Sequence[str]) -> str:
    if rng.random() < USUAL_SHARE:
        return ways[0]
    return ways[int(rng.integers(len(ways)))]


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def shape_noun(shape: str, rng: np.random.Generator) -> str:
    """One of the shape's names."""
    return _way(rng, words.SHAPE_NOUNS[shape])


def look_phrase(look: Look, rng: np.random.Generator, *, colors: bool = True, pattern: bool = True) -> str:
    """A noun phrase without article, such as "red and white striped ball"."""
    noun = shape_noun(look.shape, rng)
    if not colors:
        return f"{_way(rng, words.PATTERN_ADJECTIVES[look.pattern])} {noun}"
    color = _way(rng, words.COLOR_ADJECTIVES[look.color])
    if look.color2 is None:
        stated = pattern and rng.random() < 0.4
        return (
            f"{_way(rng, words.PATTERN_ADJECTIVES['plain'])} {color} {noun}" if stated else f"{color} {noun}"
        )
    color2 = _way(rng, words.COLOR_ADJECTIVES[look.color2])
    if not pattern:
        return f"{color} and {color2} {noun}"
    adjective = _way(rng, words.PATTERN_ADJECTIVES[look.pattern])
    marks = _way(rng, words.PATTERN_NOUNS[look.pattern])
    orders = (
        f"{color} and {color2} {adjective} {noun}",
        f"{color} {noun} with {color2} {marks}",
        f"{noun} with {color} and {color2} {marks}",
        f"{adjective} {color} and {color2} {noun}",
    )
    return orders[rng.choice(4, p=(0.45, 0.25, 0.15, 0.15))]


def sentence(subject: str, *, place: str | None, motion: str | None, rng: np.random.Generator) -> str:
    """A caption about `subject`; a place or motion of None is left out."""
    where = "" if place is None else _way(rng, words.PLACE_PHRASES[place])
    if motion is None:
        return f"{subject} {where}" if rng.random() < 0.5 else f"{where}, {subject}"
    verbs = words.MOTION_VERBS[motion]
    verb = verbs[0] if rng.random() < USUAL_SHARE else verbs[rng.integers(len(verbs))]
    tail = _way(rng, verb.tails)
    does, doing = f"{verb.present} {tail}".strip(), f"{verb.ing} {tail}".strip()
    if place is None:
        return f"{subject} {does}"
    orders = (
        f"{subject} {does} {where}",
        f"{where}, {subject} {does}",
        f"{subject} {doing} {where}",
        f"{subject} {where} {does}",
    )
    return orders[rng.choice(4, p=(0.45, 0.25, 0.2, 0.1))]


def full_caption(look: Look, place: str, motion: str, rng: np.random.Generator) -> str:
    """A caption that names look, place and motion; one in ten leaves one of them out."""
    missing = ""
    if rng.random() < INCOMPLETE_SHARE:
        missing = str(rng.choice(("place", "motion", "colors", "pattern")))
    phrase = look_phrase(look, rng, colors=missing != "colors", pattern=missing != "pattern")
    return sentence(
        with_article(phrase),
        place=None if missing == "place" else place,
        motion=None if missing == "motion" else motion,
        rng=rng,
    )


def introduction(look: Look, place: str, motion: str, rng: np.random.Generator) -> str:
    """The caption of a first shot that names the hero's look completely."""
    phrase = look_phrase(look, rng)
    subject = words.HERO_INTRODUCTION.format(look=phrase) if rng.random() < 0.4 else with_article(phrase)
    return sentence(subject, place=place, motion=motion, rng=rng)


def scene_prompt(look: Look, rng: np.random.Generator) -> str:
    """A global prompt that names the hero's look."""
    return _way(rng, words.SCENE_PROMPTS).format(look=with_article(look_phrase(look, rng)))
