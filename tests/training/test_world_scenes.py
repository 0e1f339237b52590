"""Scenes and captions of the synthetic world."""

import numpy as np
import pytest

from mocgen.training.world import (
    COLORS,
    MOTIONS,
    PATTERNS,
    PLACES,
    SHAPES,
    STOP_WORDS,
    WORDS,
    Look,
    is_held_out,
    sample_scene,
)
from mocgen.training.world.words import words_of


def scenes(count: int, *, shots: int, held_out: bool = False) -> list:
    return [sample_scene(np.random.default_rng((7, i)), shots=shots, held_out=held_out) for i in range(count)]


def test_a_scene_depends_on_its_seed_only():
    one, again = (sample_scene(np.random.default_rng(3), shots=6) for _ in range(2))
    assert one == again
    assert one != sample_scene(np.random.default_rng(4), shots=6)


def test_concepts_and_captions_use_known_words_only():
    for concept in (*SHAPES, *PATTERNS, *COLORS, *PLACES, *MOTIONS):
        assert set(words_of(concept)) <= WORDS
    for scene in scenes(600, shots=4):
        texts = [scene.prompt, *(s.caption for s in scene.shots), *(s.full_caption for s in scene.shots)]
        for text in texts:
            assert set(words_of(text)) <= WORDS, text
            assert len([word for word in words_of(text) if word not in STOP_WORDS]) <= 14, text
    assert "hero" in WORDS - STOP_WORDS


def test_captions_contain_no_dangling_spaces_or_commas():
    for scene in scenes(300, shots=4):
        for shot in scene.shots:
            for text in (shot.caption, shot.full_caption):
                assert text == " ".join(text.split())
                assert not text.startswith(",")
                assert not text.endswith(",")


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_combinations_are_kept_apart(held_out):
    for scene in scenes(200, shots=4, held_out=held_out):
        assert {is_held_out(shot.look, shot.place) for shot in scene.shots} == {held_out}


def test_about_five_percent_of_the_combinations_are_held_out():
    looks = [
        Look(shape=shape, pattern="striped", color=color, color2=color2)
        for shape in SHAPES
        for color in COLORS
        for color2 in COLORS
        if color != color2
    ]
    share = np.mean([is_held_out(look, place) for look in looks for place in PLACES])
    assert 0.04 < share < 0.06


def test_every_value_of_every_concept_is_drawn():
    shots = [scene.shots[0] for scene in scenes(400, shots=1)]
    assert {shot.look.shape for shot in shots} == set(SHAPES)
    assert {shot.look.pattern for shot in shots} == set(PATTERNS)
    assert {shot.look.color for shot in shots} == set(COLORS)
    assert {shot.place for shot in shots} == set(PLACES)
    assert {shot.motion for shot in shots} == set(MOTIONS)
    for shot in shots:
        assert (shot.look.color2 is None) == (shot.look.pattern == "plain")
        assert shot.look.color != shot.look.color2


def test_the_hero_returns_in_two_thirds_of_the_later_shots():
    later = [shot.look == scene.shots[0].look for scene in scenes(300, shots=5) for shot in scene.shots[1:]]
    assert 0.6 < np.mean(later) < 0.7


def test_a_place_that_stays_keeps_its_background_and_motions_change():
    stays = []
    for scene in scenes(300, shots=5):
        for last, shot in zip(scene.shots, scene.shots[1:], strict=False):
            assert shot.motion != last.motion
            stays.append(shot.place == last.place)
            assert (shot.pose.backdrop == last.pose.backdrop) == stays[-1]
    assert 0.2 < np.mean(stays) < 0.3


def test_the_hero_is_named_in_half_of_the_first_shots_and_in_a_quarter_of_the_prompts():
    drawn = scenes(800, shots=2)
    colors = {word for color in COLORS for word in words_of(color)}
    by_prompt = [bool(scene.prompt) for scene in drawn]
    hero_only = [
        scene.shots[0].caption.count("hero") + scene.shots[0].caption.count("character") for scene in drawn
    ]
    unnamed = [
        bool(hero) and scene.shots[0].look.color not in words_of(scene.shots[0].caption)
        for hero, scene in zip(hero_only, drawn, strict=True)
    ]
    assert 0.2 < np.mean(by_prompt) < 0.3
    assert 0.45 < np.mean(unnamed) < 0.62  # synonyms of colours make a few named ones look unnamed
    assert all(colors.isdisjoint(words_of(s.prompt)) for s in drawn if not s.prompt)


def test_nine_in_ten_full_captions_name_place_and_motion_and_look():
    sizes = []
    for scene in scenes(400, shots=1):
        shot = scene.shots[0]
        words = [word for word in words_of(shot.full_caption) if word not in STOP_WORDS]
        complete = 4 if shot.look.color2 is None else 6  # shape, place, motion and what the look needs
        sizes.append(len(words) >= complete)
    assert np.mean(sizes) > 0.85
