"""Prompts in words that the world does not use, and what of them is understood."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mocgen.text.vocabulary import Vocabulary
from mocgen.training.world import words
from mocgen.training.world.concepts import all_concepts

from .rates import Rate
from .reading import ATTRIBUTES, Reading

FILE = Path(__file__).with_name("open_prompts.toml")
SECOND = Path(__file__).with_name("open_prompts_second.toml")


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """What a text names; None or empty where it leaves something out."""

    place: str | None = None
    colours: frozenset[str] = frozenset()
    shape: str | None = None
    motion: str | None = None
    pattern: str | None = None

    def of(self, attribute: str) -> str | frozenset[str] | None:
        """What is named for one of `ATTRIBUTES`."""
        named: str | frozenset[str] | None = getattr(self, attribute)
        return named or None


@dataclass(frozen=True, kw_only=True)
class OpenPrompt:
    """A prompt, and what it means in the world."""

    caption: str
    concepts: Concepts


@dataclass(frozen=True, kw_only=True)
class Understanding:
    """How a vocabulary reads open prompts."""

    rates: dict[str, Rate]  # by attribute, of all named concepts, and of prompts that are read as a whole
    false_readings: Rate  # of words that mean nothing in the world
    mistakes: tuple[tuple[str, str, str, str], ...]  # caption, attribute, asked for, read


@cache
def load_prompts(path: Path = FILE) -> tuple[OpenPrompt, ...]:
    """The prompts of a file."""
    prompts = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["prompts"]:
        named = {key: value for key, value in entry.items() if key != "caption"}
        concepts = Concepts(**(named | {"colours": frozenset(named.get("colours", ()))}))
        prompts.append(OpenPrompt(caption=entry["caption"], concepts=concepts))
    return tuple(prompts)


@cache
def meaningless_words() -> tuple[str, ...]:
    """Words that mean nothing in the world."""
    return tuple(tomllib.loads(FILE.read_text(encoding="utf-8"))["meaningless"])


def concepts_of(caption: Sequence[str]) -> Concepts:
    """What a caption in the words of the world names; the first one counts, but for colours."""
    said: dict[str, list[str]] = {"direction": [], "motion": [], "color": [], "shape": [], "pattern": []}
    for word in caption:
        for concept in all_concepts():
            if concept.kind in said and word in concept.examples:
                said[concept.kind].append(concept.name)
    said["pattern"] += [name for name, nouns in words.PATTERN_NOUNS.items() if set(nouns) & set(caption)]
    motions = [name for name in said["motion"] if name != "moves"]
    if not motions and said["motion"]:
        motions = [f"moves {direction}" for direction in said["direction"]]
    return Concepts(
        place=_most_said(set(caption)),
        colours=frozenset(said["color"]),
        shape=next(iter(said["shape"]), None),
        motion=next(iter(motions), None),
        pattern=next(iter(said["pattern"]), None),
    )


def understand(vocabulary: Vocabulary, prompts: Sequence[OpenPrompt]) -> Understanding:
    """Read the prompts, and the words that mean nothing."""
    outcomes, mistakes = [], []
    for prompt in prompts:
        read = concepts_of([vocabulary.words[i - 1] for i in vocabulary.read(prompt.caption).ids])
        named = {name: prompt.concepts.of(name) for name in ATTRIBUTES}
        outcomes.append({name: asked == read.of(name) for name, asked in named.items() if asked})
        mistakes += [
            (prompt.caption, name, text_of(asked), text_of(read.of(name)))
            for name, asked in named.items()
            if asked != read.of(name)
        ]
    false = [bool(vocabulary.read(word).read_as) for word in meaningless_words()]
    return Understanding(
        rates=concept_rates(outcomes),
        false_readings=Rate.of(false),
        mistakes=tuple(mistakes),
    )


def concept_rates(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, Rate]:
    """Of each prompt's named concepts: right by attribute, "concepts": of all, "all": with none wrong."""
    rates = {name: Rate.of(own[name] for own in outcomes if name in own) for name in ATTRIBUTES}
    concepts = Rate.of(right for own in outcomes for right in own.values())
    return rates | {"concepts": concepts, "all": Rate.of(all(own.values()) for own in outcomes)}


def shown(reading: Reading, concepts: Concepts) -> dict[str, bool]:
    """Which of the named concepts a shot shows; of colours all that are named."""
    look = reading.match.look
    found = {
        "place": reading.place == concepts.place,
        "colours": concepts.colours <= {look.color, look.color2},
        "shape": look.shape == concepts.shape,
        "motion": reading.motion == concepts.motion,
        "pattern": look.pattern == concepts.pattern,
    }
    return {name: found[name] for name in ATTRIBUTES if concepts.of(name)}


def _most_said(said: set[str]) -> str | None:
    """The place of whose names most is said; whole names first."""
    best, place = (0, 0), None
    for concept in all_concepts():
        if concept.kind != "place":
            continue
        names = [set(name.split()) for name in concept.examples]
        whole = max((len(name) for name in names if name <= said), default=0)
        parts = len(set().union(*names) & said)
        if (whole, parts) > best:
            best, place = (whole, parts), concept.name
    return place


def text_of(named: str | frozenset[str] | None) -> str:
    """What is named, in words."""
    return " and ".join(sorted(named)) if isinstance(named, frozenset) else named or "nothing"
