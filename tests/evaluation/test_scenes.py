"""What is asked: looks that stand in no caption, combinations that were held out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mocgen.errors import UsageError
from mocgen.evaluation.requests import RecallRequest
from mocgen.evaluation.scenes import captioned_shot, return_scene, rollout_shots
from mocgen.evaluation.ways import WAYS, read_way
from mocgen.training.world import is_held_out
from mocgen.training.world.words import COLOR_ADJECTIVES, PATTERN_ADJECTIVES, SHAPE_NOUNS, words_of

OF_LOOKS = {
    word
    for table in (COLOR_ADJECTIVES, PATTERN_ADJECTIVES, SHAPE_NOUNS)
    for ways in table.values()
    for way in ways
    for word in words_of(way)
}


@pytest.mark.parametrize("gap", [1, 2, 8, 15])
def test_the_look_of_the_character_stands_in_none_of_its_captions(gap: int) -> None:
    for number in range(20):
        scene = return_scene(3, number, gap)
        assert scene.gap == gap
        assert scene.seen.look == scene.back.look
        assert scene.seen.place != scene.back.place
        assert all(other.look != scene.back.look for other in scene.others)
        for shot in (scene.seen, scene.back):
            # "on the green hills" names a place
            said = set(words_of(shot.caption)) - {"green", "star", "stars"}
            assert not said & OF_LOOKS, shot.caption
            assert is_held_out(shot.look, shot.place)
        assert set(words_of(scene.back.full_caption)) & OF_LOOKS


def test_scenes_depend_on_their_numbers_alone() -> None:
    assert return_scene(3, 5, 4) == return_scene(3, 5, 4)
    assert return_scene(3, 5, 4) != return_scene(3, 6, 4)
    assert return_scene(3, 5, 4).back.look != return_scene(3, 5, 8).back.look
    assert captioned_shot(3, 5) == captioned_shot(3, 5)


def test_the_hero_of_a_roll_out_returns_in_every_second_shot_and_places_change() -> None:
    shots = rollout_shots(1, 0, 10)
    assert len(shots) == 11
    assert [shot.look == shots[0].look for shot in shots] == [True, *[False, True] * 5]
    assert all(a.place != b.place for a, b in pairwise(shots))


def test_ways_are_read_from_their_names() -> None:
    assert [read_way(name).name for name in WAYS] == list(WAYS)
    assert (read_way("moc-4").attention, read_way("moc-4").top_k) == ("moc", 4)
    assert (read_way("first-frame").attention, read_way("first-frame").top_k) == ("first-frame", None)
    assert read_way("none").past == "none"
    assert (read_way("clip").past, read_way("clip").captions) == ("clip", False)
    assert (read_way("clip-captions").past, read_way("clip-captions").captions) == ("clip", True)
    assert read_way("named").named


@pytest.mark.parametrize("name", ["sparse", "moc-0", "dense-3", "first-frame-2", "moc-x", "", "none-1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not known"):
        read_way(name)


@pytest.mark.parametrize(
    "wrong", [{"gaps": ()}, {"gaps": (0,)}, {"ways": ()}, {"samples": 0}, {"gaps": (1, 1)}]
)
def test_requests_without_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        RecallRequest(**wrong)
