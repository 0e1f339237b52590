"""inspect-routing on real runs: the whole report, a video that plays, and loops only without causality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from mocgen.video import probe

STAR, CUBE, RING = "a red star spins in the desert", "a blue cube bounces under the sea", "the hero grows"


def numbers_of(folder: str) -> dict[str, object]:
    """The parsed routing.json."""
    found: dict[str, object] = json.loads((Path(folder) / "routing.json").read_text())
    return found


def test_a_report_is_complete(film) -> None:
    made = film("inspect-routing", STAR, CUBE, RING, "--out", "report", "--no-upscale")
    folder = Path("report")
    assert {"routing.json", "routing.safetensors", "index.html", "video.mp4"} <= {
        path.name for path in folder.iterdir()
    }
    assert len(list(folder.glob("*.png"))) >= 1
    page = (folder / "index.html").read_text()
    assert all(caption in page for caption in (STAR, CUBE, RING))
    assert "video.mp4" in page
    assert (made["report_dir"], made["loops"], made["output"]) == ("report", 0, "report/video.mp4")
    assert numbers_of("report")["loops"] == 0
    assert made["summary"]
    counts = load_file(folder / "routing.safetensors")["counts"]
    assert counts.shape == (2, 2, 9, 9)  # layers, heads, and per shot a caption and two groups
    assert counts.tril(-1).equal(counts)  # to earlier contexts only
    assert counts.sum() > 0
    assert [path.name for path in Path().iterdir()] == ["report"]


def test_the_video_of_a_report_is_the_one_that_generate_makes(film, frames_of) -> None:
    film("generate", STAR, CUBE, "-o", "v.mp4", "--no-upscale")
    film("inspect-routing", "--repeat", "v.mp4", "--out", "report")
    info = probe(Path("report/video.mp4"))
    assert (info.width, info.height, info.frames, info.fps) == (96, 96, 16, 8)
    assert np.array_equal(frames_of("report/video.mp4"), frames_of("v.mp4"))


def test_joint_routing_makes_loops(film) -> None:
    made = film("inspect-routing", STAR, CUBE, RING, "--out", "report", "--no-upscale", "--no-causal")
    assert made["loops"] > 0
    assert numbers_of("report")["loops"] == made["loops"]
    assert any("routed to each other" in line for line in made["summary"])


@pytest.mark.parametrize("attention", ["dense", "window", "first-frame", "random"])
def test_baselines_can_be_inspected(film, attention: str) -> None:
    made = film("inspect-routing", STAR, CUBE, "--out", "report", "--no-upscale", "--attention", attention)
    assert (made["attention"], made["loops"]) == (attention, 0)


def test_an_extension_is_inspected_with_the_clip_as_its_past(film, make_clip) -> None:
    make_clip("clip.mp4", frames=48)
    made = film("inspect-routing", "--clip", "clip.mp4", STAR, "--out", "report")
    assert (made["loops"], made["frames"]) == (0, 48 + 24)
    counts = load_file("report/routing.safetensors")["counts"]
    assert counts.shape[-1] == 9  # two shots of the clip and the new one
    assert counts[:, :, :6].sum() == 0  # the clip is only read
    assert counts[:, :, 6:, :6].sum() > 0
    info = probe(Path("report/video.mp4"))
    assert (info.width, info.height, info.frames) == (112, 80, 72)


def test_an_own_video_is_inspected_with_its_captions_and_prompt(film) -> None:
    Path("story.toml").write_text(f'prompt = "a story about a red star"\nshots = ["{STAR}"]\n')
    film("generate", "--storyboard", "story.toml", "-o", "v.mp4", "--no-upscale")
    film("inspect-routing", "--clip", "v.mp4", CUBE, "--out", "report")
    assert numbers_of("report")["captions"] == [STAR, CUBE]
    assert CUBE in Path("report/index.html").read_text()
    assert load_file("report/routing.safetensors")["counts"].shape[-1] == 7  # with the global prompt


def test_captions_stay_with_their_shots_when_only_the_clips_end_is_remembered(
    film, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mocgen.native.NativeModel.context_seconds", 1.0)
    film("generate", STAR, CUBE, RING, "-o", "v.mp4", "--no-upscale", "--steps", "1")
    film("inspect-routing", "--clip", "v.mp4", STAR, "--out", "report", "--steps", "1")
    assert numbers_of("report")["captions"] == ["", "", RING, STAR]
    assert STAR in Path("report/index.html").read_text()


def test_people_read_a_summary_and_where_the_report_is(run_mocgen, tiny_model: str) -> None:
    arguments = ("inspect-routing", STAR, CUBE, "--out", "report", "--no-upscale", "--model", tiny_model)
    outcome = run_mocgen(*arguments)
    assert outcome.code == 0
    assert "memory flows one way" in outcome.out
    assert "report/index.html" in outcome.out


def test_a_folder_with_other_files_is_left_alone(run_mocgen, tiny_model: str) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work")
    arguments = ("inspect-routing", STAR, "--out", "thesis", "--no-upscale", "--model", tiny_model)
    for more in ((), ("--overwrite",)):
        assert "thesis" in run_mocgen(*arguments, *more).err
    assert [path.name for path in Path("thesis").iterdir()] == ["chapter.txt"]


def test_an_old_report_is_replaced_when_asked(film, run_mocgen, tiny_model: str) -> None:
    film("inspect-routing", STAR, CUBE, "--out", "report", "--no-upscale")
    arguments = ("inspect-routing", RING, "--out", "report", "--no-upscale", "--model", tiny_model)
    assert "--overwrite" in run_mocgen(*arguments).err
    assert run_mocgen(*arguments, "--overwrite").code == 0
    assert RING in Path("report/index.html").read_text()
    assert STAR not in Path("report/index.html").read_text()
    assert [path.name for path in Path().iterdir()] == ["report"]
