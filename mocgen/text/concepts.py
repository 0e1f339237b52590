"""Concepts of the world, and the word table that tells how near any word is to them.

The table holds vectors of common English words, and examples of each concept; see weights/README.md for
how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

ENDINGS = (  # of words, and what may stand in their place
    ("ies", "y"),
    ("es", "", "e"),
    ("s", ""),
    ("ing", "", "e"),
    ("ed", "", "e"),
    ("ish", "", "e"),
    ("y", "", "e"),
)

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Concept:
    """Something that can be shown. `phrase`: the words of the model that say it, none if it has none."""

    name: str
    kind: str
    phrase: tuple[str, ...]


class WordTable:
    """Vectors of words, and the examples of concepts."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "np") as file:
            entries = json.loads(file.metadata()["concepts"])
            words, vectors, scale = (file.get_tensor(name) for name in ("words", "vectors", "scale"))
            examples = _unit(file.get_tensor("examples") * scale)  # (M, D)
        self._rows = {word: row for row, word in enumerate(words.tobytes().decode().split("\n"))}
        self._vectors, self._scale = vectors, scale  # (N, D) int8, (D,)
        self.concepts = tuple(
            Concept(name=entry["name"], kind=entry["kind"], phrase=tuple(entry["phrase"]))
            for entry in entries
        )
        ends = np.cumsum([len(entry["examples"]) for entry in entries])[:-1]
        self._examples = np.split(examples, ends)
        self._centres = _unit(np.stack([own.mean(0) for own in self._examples]))
        self._exact: dict[str, set[int]] = {}
        for number, entry in enumerate(entries):
            for word in entry["examples"]:
                self._exact.setdefault(word, set()).add(number)

    def example_of(self, text: str) -> tuple[Concept, ...]:
        """The concepts of which a word, or words with blanks between them, is an example."""
        own = next((self._exact[form] for form in simpler_forms(text) if form in self._exact), set())
        return tuple(self.concepts[number] for number in sorted(own))

    def nearness(self, text: str) -> Vector | None:
        """How near a word, or words with blanks between them, is to each concept: at most 1, an example's.

        None if the table does not hold it.
        """
        parts = [part for word in text.split() for part in self._parts(word)]
        exact = next((self._exact[form] for form in simpler_forms(text) if form in self._exact), set())
        if not parts and not exact:
            return None
        near = np.zeros(len(self.concepts))
        if parts:
            vector = _unit(np.mean([self._vector(part) for part in parts], axis=0))
            best = [np.sort(own @ vector)[-2:].mean() for own in self._examples]
            near = (self._centres @ vector + np.array(best)) / 2
        near[list(exact)] = 1
        return near

    def _vector(self, word: str) -> Vector:
        return _unit(self._vectors[self._rows[word]] * self._scale)

    def _parts(self, word: str) -> list[str]:
        """The word as the table has it or another form of it, or the two words that it is made of."""
        for form in _related(word):
            if form in self._rows:
                return [form]
        for cut in range(3, len(word) - 2):
            second = next((form for form in simpler_forms(word[cut:]) if form in self._rows), None)
            if word[:cut] in self._rows and second:
                return [word[:cut], second]
        return []


@cache
def load_word_table(path: Path) -> WordTable:
    """The table of a file, read once."""
    return WordTable(path)


def _unit(vectors: Vector) -> Vector:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def simpler_forms(word: str) -> Iterator[str]:
    """The word, and simpler ones that it may be made from: twirls, hopped, berries, bluish, rusty."""
    yield word
    for ending, *instead in ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            yield from (stem + end for end in instead)
            if stem[-1] == stem[-2]:
                yield stem[:-1]


def _related(word: str) -> Iterator[str]:
    """The forms of a word, and others that are made from them: pebbles for a pebble, jogging for jogs."""
    yield from simpler_forms(word)
    for stem in simpler_forms(word):
        yield from (stem + ending for ending in ("s", "ing", "ed"))
        yield from (stem.rstrip("e") + ending for ending in ("ing", "ed"))
        yield stem + stem[-1] + "ing"
