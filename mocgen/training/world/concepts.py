"""Every concept of the world with all words that name it: what prompts are read as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from mocgen.training.world import synonyms, words
from mocgen.training.world.words import Verb, words_of


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept of the world: its kind, the usual words for it, and all words that name it."""

    name: str
    kind: str
    phrase: tuple[str, ...]
    examples: tuple[str, ...]


BESIDE_THE_POINT = frozenset(words_of("near among between front bottom dry down green by wards towards"))
NO_PLACE = frozenset(("under", "outer", "hills"))  # parts of a place's name that alone are none
DIRECTIONS = {
    "left": ("left", "leftwards", "leftward", "west", "westward"),
    "right": ("right", "rightwards", "rightward", "east", "eastward"),
}


@cache
def all_concepts() -> tuple[Concept, ...]:
    """Every concept that a caption can name. Going left and going right are a motion and a direction."""
    kinds = (
        ("color", words.COLOR_ADJECTIVES, synonyms.MORE_COLOR_ADJECTIVES),
        ("shape", words.SHAPE_NOUNS, synonyms.MORE_SHAPE_NOUNS),
        ("pattern", words.PATTERN_ADJECTIVES, synonyms.MORE_PATTERN_ADJECTIVES),
    )
    found = [
        Concept(name=name, kind=kind, phrase=(name,), examples=(*usual[name], *more[name]))
        for kind, usual, more in kinds
        for name in usual
    ]
    for name, phrases in words.PLACE_PHRASES.items():
        examples = [" ".join(_content(phrase)) for phrase in (*phrases, *synonyms.MORE_PLACE_PHRASES[name])]
        parts = [word for phrase in phrases for word in _content(phrase) if word not in NO_PLACE]
        found.append(
            Concept(
                name=name, kind="place", phrase=_content(phrases[0]),
                examples=tuple(dict.fromkeys([*examples, *parts])),
            )
        )  # fmt: skip
    for name, verbs in words.MOTION_VERBS.items():
        if name in ("moves left", "moves right"):
            continue
        phrase = _content(f"{verbs[0].present} {verbs[0].tails[0]}")
        found.append(_motion(name, phrase, (*verbs, *synonyms.MORE_MOTION_VERBS[name])))
    found.append(_motion("moves", ("moves",), (*words.MOTION_VERBS["moves left"], *synonyms.MORE_TRAVEL)))
    found += [
        Concept(name=name, kind="direction", phrase=(name,), examples=examples)
        for name, examples in DIRECTIONS.items()
    ]
    return tuple(found)


def _motion(name: str, phrase: tuple[str, ...], verbs: Iterable[Verb]) -> Concept:
    examples = tuple(form for verb in verbs for form in (verb.present, verb.ing) if verb.present != "gets")
    return Concept(name=name, kind="motion", phrase=phrase, examples=examples)


def _content(phrase: str) -> tuple[str, ...]:
    return tuple(
        word for word in words_of(phrase) if word not in words.STOP_WORDS and word not in BESIDE_THE_POINT
    )
