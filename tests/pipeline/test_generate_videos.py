"""generate, from the command line to the file: what was promised is in it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mocgen.video import probe

STAR, CUBE, RING = "a red star spins in the desert", "a blue cube bounces under the sea", "the hero grows"
PROMISED = (
    "output frames fps width height seconds seed model revision attention top_k density elapsed_seconds"
)


def test_a_video_keeps_every_promise_of_its_json(film, frames_of, tiny_model: str) -> None:
    made = film("generate", STAR, CUBE, "-o", "v.mp4")
    assert set(PROMISED.split()) | {"shots", "unknown_words", "read_words"} == set(made)
    assert (made["output"], made["frames"], made["fps"], made["seconds"]) == ("v.mp4", 16, 8.0, 2.0)
    assert (made["width"], made["height"]) == (384, 384)
    assert (made["seed"], made["model"], made["shots"]) == (5, tiny_model, 2)
    assert (made["attention"], made["top_k"], made["unknown_words"]) == ("moc", 2, [])
    assert len(made["revision"]) == 12
    assert made["elapsed_seconds"] > 0
    info = probe(Path("v.mp4"))
    assert (info.width, info.height, info.frames, info.fps) == (384, 384, 16, 8)
    assert (info.seconds, info.codec, info.pixel_format) == (2.0, "h264", "yuv420p")
    assert frames_of("v.mp4").shape == (16, 384, 384, 3)


def test_shots_of_one_video_differ(film, frames_of) -> None:
    film("generate", STAR, CUBE, STAR, "-o", "v", "--no-upscale")
    frames = frames_of("v").astype(int)
    for first, second in ((0, 8), (8, 16), (0, 16)):
        assert np.abs(frames[first : first + 8] - frames[second : second + 8]).mean() > 5


def test_the_same_seed_makes_the_same_frames_and_another_seed_others(film, frames_of, latents_of) -> None:
    for name, seed in (("one.mp4", "3"), ("two.mp4", "3"), ("other.mp4", "4")):
        film("generate", STAR, CUBE, "-o", name, "--seed", seed, "--no-upscale")
    assert np.array_equal(frames_of("one.mp4"), frames_of("two.mp4"))
    assert all(a.equal(b) for a, b in zip(latents_of("one.mp4"), latents_of("two.mp4"), strict=True))
    assert np.abs(frames_of("one.mp4").astype(int) - frames_of("other.mp4")).mean() > 5


def test_the_settings_change_the_frames(film, frames_of) -> None:
    film("generate", STAR, CUBE, RING, "-o", "plain", "--no-upscale")
    for number, option in enumerate(
        (["--steps", "3"], ["--guidance", "3"], ["--negative", "a green ring"], ["--top-k", "1"])
    ):
        film("generate", STAR, CUBE, RING, "-o", f"v{number}", "--no-upscale", *option)
        assert not np.array_equal(frames_of("plain"), frames_of(f"v{number}")), option


def test_repeat_makes_the_same_video(film, run_mocgen, frames_of) -> None:
    Path("story.toml").write_text(
        'prompt = "a story about a red star"\nshots = ["it grows", {caption = "a ring", seconds = 0.5}]\n'
    )
    options = ("--steps", "1", "--top-k", "1", "--attention", "window", "--negative", "a cube", "--fps", "12")
    made = film("generate", "--storyboard", "story.toml", "-o", "v.mp4", "--no-upscale", *options)
    outcome = run_mocgen("generate", "--repeat", "v.mp4", "-o", "again.mp4", "--format", "json")
    assert outcome.code == 0
    assert np.array_equal(frames_of("v.mp4"), frames_of("again.mp4"))
    changing = {"output", "elapsed_seconds"}
    assert {k: v for k, v in outcome.json.items() if k not in changing} == {
        k: v for k, v in made.items() if k not in changing
    }


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif", "v"])
def test_every_kind_of_file_says_how_it_was_made(film, run_mocgen, frames_of, name: str) -> None:
    made = film("generate", STAR, RING, "-o", name, "--no-upscale", "--steps", "1")
    assert frames_of(name).shape == (16, 96, 96, 3)
    record = run_mocgen("info", name, "--format", "json").json["mocgen"]
    assert record["command"] == "generate"
    assert [shot["caption"] for shot in record["shots"]] == [STAR, RING]
    assert (record["model"], record["revision"]) == (made["model"], made["revision"])
    assert (record["settings"]["seed"], record["settings"]["steps"]) == (5, 1)
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (384, 384)),
        (["--no-upscale"], (96, 96)),
        (["--size", "96x96"], (96, 96)),
        (["--size", "250x250"], (250, 250)),
        (["--no-upscale", "--size", "96x96"], (96, 96)),
    ],
)
def test_the_picture_has_the_size_that_was_asked_for(film, options: list[str], size: tuple[int, int]) -> None:
    made = film("generate", STAR, "-o", "v.mp4", "--steps", "1", *options)
    info = probe(Path("v.mp4"))
    assert (made["width"], made["height"]) == (info.width, info.height) == size


def test_upscaling_shows_the_same_pictures(film, frames_of) -> None:
    film("generate", STAR, "-o", "small", "--no-upscale")
    film("generate", STAR, "-o", "large", "--size", "192x192")
    means = frames_of("large").reshape(8, 96, 2, 96, 2, 3).mean((2, 4))
    small = frames_of("small").astype(float)
    assert np.corrcoef(means.ravel(), small.ravel())[0, 1] > 0.98
    assert abs(means.mean() - small.mean()) < 2


@pytest.mark.parametrize(
    ("size", "advice"), [("94x94", "96x96"), ("192x96", "96x96"), ("640x480", "480x480"), ("32x640", "96x96")]
)
def test_a_size_out_of_reach_is_refused_with_one_that_works(
    run_mocgen, tiny_model: str, size: str, advice: str
) -> None:
    outcome = run_mocgen("generate", STAR, "--model", tiny_model, "--size", size, "-o", "v.mp4")
    assert outcome.code == 2
    assert f"size {size} cannot be reached" in outcome.err
    assert f"try --size {advice}" in outcome.err
    assert list(Path().iterdir()) == []


def test_no_upscale_and_another_size_contradict_each_other(run_mocgen, tiny_model: str) -> None:
    outcome = run_mocgen("generate", STAR, "--model", tiny_model, "--size", "192x192", "--no-upscale")
    assert outcome.code == 2
    assert "--no-upscale" in outcome.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        (["--fps", "30"], [30, 60, 90]),
        (["--fps", "29.97"], [30, 60, 90]),
        (["--seconds", "2.5"], [20, 40, 60]),
        (["--seconds", "0.3"], [2, 5, 7]),
        (["--seconds", "0.3", "--fps", "25"], [8, 15, 22]),
        (["--seconds", "0.25", "--fps", "1"], [1, 2, 3]),
    ],
)
def test_shots_end_where_they_should_and_rounding_never_adds_up(
    film, frames_of, options: list[str], ends: list[int]
) -> None:
    made = film("generate", STAR, CUBE, RING, "-o", "v", "--no-upscale", "--steps", "1", *options)
    film("generate", STAR, CUBE, RING, "-o", "whole", "--no-upscale", "--steps", "1")
    shown, shots = frames_of("v"), frames_of("whole").reshape(3, 8, 96, 96, 3)
    assert made["frames"] == len(shown) == ends[-1]
    assert made["seconds"] == pytest.approx(made["frames"] / made["fps"])
    for shot, (begin, end) in zip(shots, pairwise((0, *ends)), strict=True):
        held = np.arange(end - begin) * 8 // (end - begin)
        assert np.array_equal(shown[begin:end], shot[held])


def test_a_storyboard_gives_each_shot_its_own_length(film, frames_of) -> None:
    Path("story.json").write_text('["a star", {"caption": "a cube", "seconds": 0.5}, "a ring"]')
    made = film("generate", "--storyboard", "story.json", "-o", "v", "--no-upscale", "--seconds", "2")
    assert made["frames"] == len(frames_of("v")) == 16 + 4 + 16
    assert made["shots"] == 3


@pytest.mark.parametrize("seconds", ["0.2", "11"])
def test_a_length_out_of_reach_is_refused(run_mocgen, tiny_model: str, seconds: str) -> None:
    outcome = run_mocgen("generate", STAR, "--model", tiny_model, "--seconds", seconds)
    assert outcome.code == 2
    assert f"a shot of {seconds} seconds cannot be made" in outcome.err
    assert list(Path().iterdir()) == []


def test_odd_rates_are_kept(film) -> None:
    film("generate", STAR, "-o", "v.mp4", "--no-upscale", "--steps", "1", "--fps", "23.976")
    assert probe(Path("v.mp4")).fps == Fraction(2997, 125)


def test_the_name_is_made_of_prompt_and_seed(film) -> None:
    made = film("generate", STAR, "--no-upscale", "--steps", "1")
    assert made["output"] == "mocgen-a-red-star-spins-in-the-desert-5.mp4"
    assert [path.name for path in Path().iterdir()] == [made["output"]]


def test_an_existing_video_is_replaced_only_when_asked(film, run_mocgen, tiny_model: str) -> None:
    film("generate", STAR, "-o", "v.mp4", "--no-upscale", "--steps", "1")
    before = Path("v.mp4").read_bytes()
    arguments = ("generate", CUBE, "-o", "v.mp4", "--model", tiny_model, "--seed", "5", "--no-upscale")
    assert "--overwrite" in run_mocgen(*arguments).err
    assert Path("v.mp4").read_bytes() == before
    assert run_mocgen(*arguments, "--overwrite").code == 0
    assert Path("v.mp4").read_bytes() != before
    assert len(list(Path().iterdir())) == 1
