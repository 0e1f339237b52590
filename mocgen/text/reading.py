"""Open words: what a caption says beyond the words that a model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mocgen.text.concepts import Concept, WordTable
from mocgen.text.roles import FUNCTION_WORDS, Role, Token

# How near a word must be to a concept of each kind, by what it does in the caption. Examples of a concept are
# at 1; above that nothing is near enough. Tuned on words other than the evaluation's: weights/README.md.
DEMANDS: dict[Role, dict[str, float]] = {
    "adjective": {
        "color": 0.5, "pattern": 0.4, "shape": 0.52, "place": 0.75, "motion": 0.65, "direction": 0.9,
    },
    "thing": {"color": 0.95, "pattern": 0.6, "shape": 0.32, "place": 0.95, "motion": 0.62, "direction": 0.9},
    "scene": {"color": 2.0, "pattern": 2.0, "shape": 2.0, "place": 0.28, "motion": 0.9, "direction": 0.9},
    "action": {"color": 0.95, "pattern": 0.95, "shape": 0.95, "place": 0.9, "motion": 0.38, "direction": 0.8},
    "heading": {"color": 0.95, "pattern": 0.95, "shape": 0.95, "place": 0.9, "motion": 0.9, "direction": 0.8},
}  # fmt: skip
PAIR_GAIN = 0.05  # by which two words together must be nearer to a concept than each of them
MOVES = "moves"  # the motion that has a direction
SEVERAL = "color"  # the kind of which a caption may name several


@dataclass(frozen=True, kw_only=True)
class Match:
    """The concept that words were read as; `margin`: how much nearer they are than they must be."""

    concept: Concept
    margin: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What `count` tokens from `start` on say; None: nothing that is known."""

    start: int
    count: int
    text: str
    match: Match | None = None


class OpenReader:
    """Reads unknown words as the concepts that they are near to; only those that `known` words can say."""

    def __init__(self, table: WordTable, known: frozenset[str]) -> None:
        self.table = table
        missing = np.array([not known.issuperset(concept.phrase) for concept in table.concepts])
        self._moves = next(
            (one for one in table.concepts if one.name == MOVES and known.issuperset(one.phrase)), None
        )
        self._demands = {
            role: np.array([demands[concept.kind] for concept in table.concepts]) + 9.0 * missing
            for role, demands in DEMANDS.items()
        }

    def read(self, tokens: Sequence[Token], known: Sequence[bool]) -> list[Reading]:
        """What the unknown words say, in order. Words like "while" say nothing and are passed over.

        Of two places, shapes, patterns or motions the known or else the nearer one counts, and a shade is
        part of the colour behind it ("wine-red").

        known: which of the tokens the model knows.
        """
        if any(one.kind == "direction" for token in tokens for one in self.table.example_of(token.word)):
            tokens = [replace(token, role="heading") if token.role == "action" else token for token in tokens]
        readings, number = [], 0
        while number < len(tokens):
            reading = self._longest(tokens, number, known)
            if reading:
                readings.append(reading)
            number += reading.count if reading else 1
        named = [self._named(token) if own else () for token, own in zip(tokens, known, strict=True)]
        readings = _colored(readings, named, tokens)
        concepts = [concept for own in named for concept in own]
        return self._moving(self._agreed(readings, concepts), concepts, tokens)

    def _agreed(self, readings: Sequence[Reading], named: Sequence[Concept]) -> list[Reading]:
        """The readings without those that contradict what is named, or what all say together by margin."""
        chosen = {concept.kind: concept for concept in reversed(named)}
        for kind in {_kind(one) for one in readings if one.match} - {SEVERAL, *chosen}:
            matches = [(one.text, one.match) for one in readings if one.match and _kind(one) == kind]
            nears = [(self.table.nearness(text), match.margin) for text, match in matches]
            total = np.sum([near * margin for near, margin in nears if near is not None], axis=0)
            read = [match.concept for _, match in matches]
            chosen[kind] = max(read, key=lambda concept: total[self.table.concepts.index(concept)])
        return [
            one
            if not one.match or _kind(one) == SEVERAL or chosen[_kind(one)] == one.match.concept
            else replace(one, match=None)
            for one in readings
        ]

    def _moving(
        self, readings: list[Reading], named: Sequence[Concept], tokens: Sequence[Token]
    ) -> list[Reading]:
        """The readings; a verb that says nothing else is a way to move if the caption gives a direction."""
        kinds = {concept.kind for concept in named} | {_kind(reading) for reading in readings}
        if "direction" not in kinds or "motion" in kinds or self._moves is None:
            return readings
        verbs = [one for one in readings if not one.match and tokens[one.start].role == "heading"]
        move = Match(concept=self._moves, margin=0.0)
        return [replace(one, match=move) if one in verbs[:1] else one for one in readings]

    def _longest(self, tokens: Sequence[Token], start: int, known: Sequence[bool]) -> Reading | None:
        """The reading of one or two tokens; None if the first is not to be read."""
        two = tokens[start : start + 2]
        words = " ".join(token.word for token in two)
        unknown = [
            not known[number] and token.word not in FUNCTION_WORDS for number, token in enumerate(two, start)
        ]
        single = [
            self.match(token.word, token.role) if ours else None
            for token, ours in zip(two, unknown, strict=True)
        ]
        exact = len(two) == 2 and any(unknown) and bool(self.table.example_of(words))
        if exact or (len(two) == 2 and all(unknown)):
            pair = self.match(words, two[1].role)
            best = max((match.margin for match in single if match), default=0.0)
            if pair and (exact or pair.margin > best + PAIR_GAIN):
                return Reading(start=start, count=2, text=words, match=pair)
        return Reading(start=start, count=1, text=two[0].word, match=single[0]) if unknown[0] else None

    def _named(self, token: Token) -> tuple[Concept, ...]:
        """What a known word names; only a scene has places ("a beach ball"), and no shapes ("the square")."""
        in_scene = token.role == "scene"
        other = "shape" if in_scene else "place"
        named = self.table.example_of(token.word)
        return tuple(concept for concept in named if concept.kind != other and _counts(concept))

    def match(self, text: str, role: Role) -> Match | None:
        """The concept that words with this role in a caption are near to, if any is near enough."""
        near = self.table.nearness(text)
        if near is None:
            return None
        margins = near - self._demands[role]
        best = int(margins.argmax())
        concept = self.table.concepts[best]
        near_enough = margins[best] > 0 and _counts(concept)
        return Match(concept=concept, margin=float(margins[best])) if near_enough else None


def _counts(concept: Concept) -> bool:
    """Whether it says something: also a colour that cannot be shown, which an object then has instead."""
    return bool(concept.phrase) or concept.kind == SEVERAL


def _kind(reading: Reading) -> str:
    return reading.match.concept.kind if reading.match else ""


def _colored(
    readings: Sequence[Reading], named: Sequence[Sequence[Concept]], tokens: Sequence[Token]
) -> list[Reading]:
    """The readings without shades of a named colour, and without the colour of a thing that has another.

    So "wine-red" is red alone, and "a red apple" is not green.
    """
    colors = {number for number, own in enumerate(named) if any(one.kind == SEVERAL for one in own)}
    readings = [one for one in readings if not (_kind(one) == SEVERAL and one.start + one.count in colors)]
    things = {one.start for one in readings if _kind(one) == SEVERAL and tokens[one.start].role == "thing"}
    colors |= {one.start for one in readings if _kind(one) == SEVERAL} - things
    return [replace(one, match=None) if colors and one.start in things else one for one in readings]
