"""Words that the model was not trained with: what they are read as, and what is left not understood."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mocgen_weights
from mocgen.evaluation.open_prompts import SECOND, concepts_of, load_prompts, meaningless_words, understand
from mocgen.text.concepts import load_word_table, simpler_forms
from mocgen.text.roles import tokenize
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.world import STOP_WORDS, sample_scene
from mocgen.training.world.concepts import all_concepts
from mocgen.training.world.words import words_of

TABLE = load_word_table(mocgen_weights.word_table_file())
LEXICON = Path(mocgen_weights.__file__).parents[1] / "lexicon.toml"


@pytest.fixture(scope="module")
def strict() -> Vocabulary:
    """The words of the embedded model."""
    config = json.loads((mocgen_weights.embedded_folder() / "config.json").read_text())
    return Vocabulary(words=tuple(config["words"]), stop_words=frozenset(config["stop_words"]))


@pytest.fixture(scope="module")
def vocabulary(strict: Vocabulary) -> Vocabulary:
    return strict.opened(TABLE)


def said(vocabulary: Vocabulary, text: str) -> str:
    """A caption as the model reads it."""
    return " ".join(vocabulary.words[number - 1] for number in vocabulary.read(text).ids)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("a crimson globe leaps over the seashore", "red ball bounces beach"),
        ("an azure box whirls", "blue box spins"),
        ("a red ball in the nebula", "red ball outer space"),
        ("a wine-red ball rolls to the right", "red ball rolls right"),  # a shade of red, not purple and red
        ("a pair of pink soccer balls", "pink ball"),
        ("a beach ball rests in the seaweed", "beach ball rests under sea"),
        ("a ball gallops to the left", "ball moves left"),  # whatever galloping is
        ("a red apple", "red ball"),  # not green
        ("a red piano", "red"),  # the world has nothing like it
        ("a penguin bounces in the prairie", "bounces meadow"),  # where it is counts, not where it lives
        ("", ""),
    ],
)
def test_what_words_are_read_as(vocabulary: Vocabulary, text: str, understood: str) -> None:
    assert said(vocabulary, text) == understood


def test_what_was_read_and_what_was_not_is_told(vocabulary: Vocabulary) -> None:
    caption = vocabulary.read("a quantum Crimson ball, CRIMSON while at the seashore")
    assert caption.read_as == (("crimson", "red"), ("seashore", "beach"))
    assert caption.unknown == ("quantum",)
    assert said(vocabulary, "a brown xyzzy 7") == ""  # a colour that the world does not have
    assert vocabulary.read("a brown xyzzy 7").unknown == ("brown", "xyzzy", "7")


def test_known_words_are_read_as_ever(strict: Vocabulary, vocabulary: Vocabulary) -> None:
    scenes = [sample_scene(np.random.default_rng(i), shots=4) for i in range(100)]
    for text in [text for scene in scenes for shot in scene.shots for text in (shot.caption, scene.prompt)]:
        assert vocabulary.read(text) == strict.read(text), text


def test_only_what_the_words_of_a_model_can_say_is_read(vocabulary: Vocabulary) -> None:
    few = Vocabulary.of(["cat", "sleeps", "red"], STOP_WORDS).opened(TABLE)
    caption = few.read("a crimson cat sleeps by the seashore")
    assert said(few, "a crimson cat sleeps by the seashore") == "red cat sleeps"
    assert caption.unknown == ("seashore",)
    assert replace(few, reader=None).read("crimson").unknown == ("crimson",)


def test_what_a_word_does_in_a_caption() -> None:
    roles = {
        token.word: token.role for token in tokenize("In the deep gorge a lime wheel spins, slowly left")
    }
    assert [roles[word] for word in ("deep", "gorge", "lime", "wheel", "spins")] == [
        "scene", "scene", "adjective", "thing", "action",
    ]  # fmt: skip


def test_open_prompts_are_mostly_understood(vocabulary: Vocabulary, strict: Vocabulary) -> None:
    prompts = load_prompts()
    assert len(prompts) == 40
    understanding = understand(vocabulary, prompts)
    assert understanding.rates["concepts"].value > 0.82
    assert understanding.false_readings.total == len(meaningless_words()) == 60
    assert understanding.false_readings.value < 0.05
    assert understand(strict, prompts).rates["concepts"].value < 0.3  # without the table
    assert understand(vocabulary, load_prompts(SECOND)).rates["concepts"].value > 0.85


def lexicon() -> list[tuple[str, str]]:
    """The concepts and examples that the table has beyond the world's own words; verbs in their base form."""
    tables = tomllib.loads(LEXICON.read_text(encoding="utf-8"))
    entries = [(name, text) for table in tables.values() for name, text in table.items()]
    return [(name, " ".join(word.split())) for name, text in entries for word in text.split(",")]


def test_nothing_was_learned_from_the_open_prompts(strict: Vocabulary) -> None:
    examples = {word for concept in all_concepts() for text in concept.examples for word in text.split()}
    prompted = {word for prompt in load_prompts() for word in words_of(prompt.caption)}
    assert [word for word in sorted(examples & prompted) if strict.read(word).unknown] == []


def test_no_form_of_an_open_prompts_word_is_in_the_lexicon(strict: Vocabulary) -> None:
    words = {word for _, text in lexicon() for word in text.split() if strict.read(word).unknown}
    prompted = {word for prompt in load_prompts() for word in words_of(prompt.caption)}
    unknown = {form for word in prompted if strict.read(word).unknown for form in simpler_forms(word)}
    assert [word for word in sorted(words) if unknown & {*simpler_forms(word)}] == []


def test_the_table_holds_the_lexicon() -> None:
    held = {concept.name: concept for concept in TABLE.concepts}
    for name, word in lexicon():
        forms = (word, f"{word}s", f"{word}es", f"{word[:-1]}ies")  # verbs are held in -s
        assert any(held[name] in TABLE.example_of(form) for form in forms), word


def test_the_table_holds_the_concepts_of_the_world() -> None:
    concepts = {concept.name: concept for concept in TABLE.concepts}
    for concept in all_concepts():
        assert concepts[concept.name].phrase == concept.phrase
        for example in concept.examples:
            near = TABLE.nearness(example)
            assert near is not None
            assert near[TABLE.concepts.index(concepts[concept.name])] == 1, example


def test_what_a_caption_names() -> None:
    named = concepts_of(words_of("a red and white striped ball rolls right in the city at night"))
    assert (named.place, named.shape, named.motion) == ("night city", "ball", "moves right")
    assert (named.colours, named.pattern) == ({"red", "white"}, "striped")
    assert concepts_of(["hero"]).of("colours") is None
