"""Captions → word ids, and what was not understood."""

from __future__ import annotations

import pytest

from mocgen.text.vocabulary import Vocabulary


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.of(["ball", "red", "spins", "beach", "the"], ["the", "a", "on"])


def test_ids_are_stable_and_start_behind_padding(vocabulary: Vocabulary) -> None:
    assert vocabulary.words == ("ball", "beach", "red", "spins")
    assert len(vocabulary) == 5
    assert vocabulary.read("A red BALL, on the beach!").ids == (3, 1, 2)


def test_simple_forms_are_understood(vocabulary: Vocabulary) -> None:
    assert vocabulary.read("balls spinning beaches").ids[0] == 1
    assert vocabulary.read("spin").ids == vocabulary.read("spins").ids == (4,)


def test_unknown_words_are_named_once_and_in_order(vocabulary: Vocabulary) -> None:
    caption = vocabulary.read("a dragon, 3 naïve 红色 balls; Dragon!")
    assert caption.unknown == ("dragon", "3", "naïve", "红色")
    assert caption.ids == (1,)


def test_captions_are_padded_to_multiples_and_cut(vocabulary: Vocabulary) -> None:
    assert vocabulary.padded("red ball", multiple=4, limit=8) == (3, 1, 0, 0)
    assert vocabulary.padded("", multiple=4, limit=8) == (0, 0, 0, 0)
    assert vocabulary.padded("red " * 5, multiple=4, limit=8) == (3, 3, 3, 3, 3, 0, 0, 0)
    assert len(vocabulary.padded("red " * 50, multiple=4, limit=8)) == 8
