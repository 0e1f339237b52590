"""The vocabulary of the world: for every concept the ways to say it, the usual one first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHAPE_NOUNS = {
    "ball": ("ball", "sphere", "orb"),
    "cube": ("cube", "box", "block", "square"),
    "triangle": ("triangle", "pyramid"),
    "diamond": ("diamond", "rhombus", "gem"),
    "star": ("star",),
    "ring": ("ring", "donut", "hoop"),
}
PATTERN_ADJECTIVES = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "checked"),
}
PATTERN_NOUNS = {
    "striped": ("stripes", "bands"),
    "dotted": ("dots", "spots"),
    "checkered": ("checks",),
}
COLOR_ADJECTIVES = {
    "red": ("red", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "white": ("white",),
    "black": ("black",),
}
PLACE_PHRASES = {
    "beach": ("on the beach", "on a sandy beach", "at the seaside", "on the shore", "at the beach"),
    "desert": ("in the desert", "among the dunes", "in a dry desert", "between desert dunes"),
    "snowy forest": ("in the snowy forest", "in the snow", "in a winter forest", "among snowy trees"),
    "meadow": ("in the meadow", "in a green meadow", "on the green hills", "on the grass", "in the fields"),
    "night city": ("in the city at night", "in a night city", "in front of the skyline", "downtown at night"),
    "outer space": ("in outer space", "in space", "among the stars", "near the planets", "in the galaxy"),
    "under the sea": ("under the sea", "underwater", "in the ocean", "at the bottom of the sea"),
    "sunset hills": ("on the hills at sunset", "at sunset", "in the evening hills", "at dusk"),
}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A way to say a motion: present tense, -ing form, and what may follow."""

    present: str
    ing: str
    tails: tuple[str, ...] = ("",)


def _directed(direction: str) -> tuple[Verb, ...]:
    tails = (direction, f"to the {direction}", f"{direction}wards", f"towards the {direction}")
    forms = (
        ("moves", "moving"),
        ("drifts", "drifting"),
        ("rolls", "rolling"),
        ("slides", "sliding"),
        ("goes", "going"),
    )
    return tuple(Verb(present=present, ing=ing, tails=tails) for present, ing in forms)


MOTION_VERBS = {
    "moves left": _directed("left"),
    "moves right": _directed("right"),
    "bounces": (
        Verb(present="bounces", ing="bouncing", tails=("", "up and down")),
        Verb(present="hops", ing="hopping"),
        Verb(present="jumps", ing="jumping", tails=("", "up and down")),
    ),
    "flies in a circle": (
        Verb(present="flies", ing="flying", tails=("in a circle", "in circles", "around in a circle")),
        Verb(present="circles", ing="circling", tails=("", "around", "in the air")),
        Verb(present="loops", ing="looping", tails=("around", "in the air")),
    ),
    "grows": (
        Verb(present="grows", ing="growing", tails=("", "bigger")),
        Verb(present="gets", ing="getting", tails=("bigger", "larger")),
        Verb(present="expands", ing="expanding"),
    ),
    "spins": (
        Verb(present="spins", ing="spinning", tails=("", "around")),
        Verb(present="rotates", ing="rotating"),
        Verb(present="turns", ing="turning", tails=("", "around")),
    ),
    "stands still": (
        Verb(present="stands", ing="standing", tails=("still",)),
        Verb(present="rests", ing="resting"),
        Verb(present="waits", ing="waiting"),
        Verb(present="stays", ing="staying", tails=("still",)),
    ),
}

HERO_NAMES = ("the hero", "our hero", "the character")  # always clear
HERO_PRONOUNS = ("it", "the same one")  # clear when the previous shot shows the hero
HERO_BY_SHAPE = "the {noun} from before"  # clear when no other object of this shape was shown
HERO_INTRODUCTION = "our hero the {look}"
SCENE_PROMPTS = (
    "the hero is {look}",
    "our hero is {look}",
    "the character is {look}",
    "a story about {look}",
)

STOP_WORDS = frozenset(
    (
        "a",
        "an",
        "the",
        "is",
        "are",
        "and",
        "in",
        "on",
        "of",
        "at",
        "to",
        "with",
        "that",
        "there",
        "our",
        "from",
        "by",
    )
)


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation and `{placeholders}`."""
    return re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", text.lower()))


def _all_texts() -> Iterable[str]:
    tables: tuple[Mapping[str, tuple[str, ...]], ...] = (
        SHAPE_NOUNS,
        PATTERN_ADJECTIVES,
        PATTERN_NOUNS,
        COLOR_ADJECTIVES,
        PLACE_PHRASES,
    )
    for table in tables:
        for concept, ways in table.items():
            yield " ".join((concept, *ways))
    for motion, verbs in MOTION_VERBS.items():
        for verb in verbs:
            yield " ".join((motion, verb.present, verb.ing, *verb.tails))
    yield from (*HERO_NAMES, *HERO_PRONOUNS, HERO_BY_SHAPE, HERO_INTRODUCTION, *SCENE_PROMPTS)


WORDS: frozenset[str] = STOP_WORDS.union(*(words_of(text) for text in _all_texts()))
