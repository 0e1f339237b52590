"""Training on a folder of clips: what is read, and that bad data is named, skipped or refused."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mocgen.errors import TrainingError
from mocgen.training.clips import read_entries, read_scenes
from mocgen.training.progress import Progress
from mocgen.training.run import train
from mocgen.video import VideoWriter

pytestmark = pytest.mark.usefixtures("_own_threads")

TWO_SHOTS = [
    {"start": 0, "end": 1, "caption": "a cat sleeps"},
    {"start": 1.5, "end": 2.6, "caption": "the cat wakes up"},
]


def write_clip(path: Path, *, seconds: float = 3.0) -> None:
    """A grey clip that becomes brighter by 8 a frame, 8 frames a second."""
    with VideoWriter(path, width=32, height=32, fps=Fraction(8), metadata={}) as writer:
        for frame in range(round(8 * seconds)):
            writer.write(np.full((1, 32, 32, 3), 20 + 8 * frame, np.uint8))


def folder_of(tmp_path: Path, *lines: object) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "captions.jsonl").write_text(text + "\n")
    write_clip(folder / "good.mp4")
    return folder


def recipe_for(tmp_path: Path, recipe: Path, folder: Path, *, top: str = "", init: str = "") -> Path:
    dropped = "codec|model|stem_training" if init else "stem_training"  # nobody knows the looks of clips
    text = f'source = "{folder}"\n{top}\n' + re.sub(rf"\[({dropped})\]\n(\w.*\n)+", "", recipe.read_text())
    if init:
        text = f'init = "{init}"\n' + text
    path = tmp_path / "clips.toml"
    path.write_text(text)
    return path


GOOD = {"file": "good.mp4", "prompt": "a film about a cat", "shots": TWO_SHOTS}


def test_shots_hold_the_frames_of_their_times(tmp_path: Path) -> None:
    folder, bad = folder_of(tmp_path, GOOD), list[str]()
    entries = read_entries(folder, bad.append)
    (scene,) = read_scenes(entries, frames=8, fps=8, size=16, on_bad=bad.append)
    assert bad == []
    assert (scene.entry.prompt, [shot.caption for shot in scene.entry.shots]) == (
        "a film about a cat", ["a cat sleeps", "the cat wakes up"],
    )  # fmt: skip
    assert scene.pixels.shape == (2, 8, 16, 16, 3)
    brightness = scene.pixels.mean((2, 3, 4))  # (2, 8)
    expected = 20 + 8 * (np.array([[0], [12]]) + np.arange(8))
    np.testing.assert_allclose(brightness, expected, atol=4)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 1"),
        ("[]", "must be an object"),
        ({"shots": TWO_SHOTS}, "'file' is missing"),
        ({"file": "good.mp4"}, "'shots' is missing"),
        ({"file": "good.mp4", "shots": []}, "one shot at least"),
        ({"file": "good.mp4", "text": "x", "shots": TWO_SHOTS}, "unknown key 'text'"),
        ({"file": "good.mp4", "shots": [{"start": 0, "end": 1}]}, "shot 1 must have"),
        ({"file": "good.mp4", "shots": [{"start": 0, "end": 1, "caption": " "}]}, "shot 1 has no caption"),
        ({"file": "good.mp4", "shots": [{"start": 2, "end": 1, "caption": "x"}]}, "must end after it starts"),
        ({"file": "good.mp4", "shots": [{"start": "0", "end": 1, "caption": "x"}]}, "must be seconds"),
        ({"file": "good.mp4", "shots": [{"start": 0, "end": 0.5, "caption": "x"}]}, "shorter than 1 s"),
        ({"file": "good.mp4", "shots": [{"start": 2.5, "end": 4, "caption": "x"}]}, "ends after 3 s"),
        ({"file": "none.mp4", "shots": TWO_SHOTS}, "none.mp4"),
        ({"file": "captions.jsonl", "shots": TWO_SHOTS}, "captions.jsonl"),
    ],
)
def test_a_bad_clip_is_named_and_skipped_or_refused(
    tmp_path: Path, recipe: Path, line: object, named: str
) -> None:
    folder = folder_of(tmp_path, line, GOOD)
    heard: list[Progress] = []
    train(recipe_for(tmp_path, recipe, folder), tmp_path / "run", on_progress=heard.append)
    (note,) = [progress.note for progress in heard if progress.note]
    assert named in note
    strict = recipe_for(tmp_path, recipe, folder, top='bad_clips = "refuse"')
    with pytest.raises(TrainingError, match="bad clips"):
        train(strict, tmp_path / "strict")


def test_a_model_learns_the_words_of_the_captions(tmp_path: Path, recipe: Path) -> None:
    folder = folder_of(tmp_path, GOOD)
    model = train(recipe_for(tmp_path, recipe, folder), tmp_path / "run")
    words = json.loads((model / "config.json").read_text())["words"]
    assert words == ["about", "cat", "film", "sleeps", "up", "wakes"]
    assert all(value.isfinite().all() for value in load_file(model / "model.safetensors").values())


def test_a_trained_model_goes_on_with_clips_and_tells_unknown_words(
    finished, tmp_path: Path, recipe: Path
) -> None:
    folder = folder_of(tmp_path, GOOD)
    heard: list[Progress] = []
    start = str(finished.folder / "model")
    tuned = train(
        recipe_for(tmp_path, recipe, folder, init=start), tmp_path / "run", on_progress=heard.append
    )
    (note,) = [progress.note for progress in heard if progress.note]
    assert "cat, film, sleeps, wakes" in note
    before, after = (load_file(Path(place) / "model.safetensors") for place in (start, tuned))
    assert not before["dit.patch_in.weight"].equal(after["dit.patch_in.weight"])
    assert torch.equal(before["codec.encoder.1.weight"], after["codec.encoder.1.weight"])


def test_folders_that_are_of_no_use(tmp_path: Path, recipe: Path) -> None:
    for folder, named in (
        (tmp_path / "nowhere", "captions.jsonl cannot be read"),
        (folder_of(tmp_path, ""), "is empty"),
    ):
        with pytest.raises(TrainingError, match=named):
            train(recipe_for(tmp_path, recipe, folder), tmp_path / folder.name)
    (folder / "captions.jsonl").write_text(json.dumps({"file": "none.mp4", "shots": TWO_SHOTS}))
    with pytest.raises(TrainingError, match="no clip that can be learned from"):
        train(recipe_for(tmp_path, recipe, folder), tmp_path / "run")


def test_more_shots_than_any_clip_has(tmp_path: Path, recipe: Path) -> None:
    folder = folder_of(tmp_path, GOOD | {"shots": TWO_SHOTS[:1]})
    with pytest.raises(TrainingError, match="no clip has more than 1 usable shot"):
        train(recipe_for(tmp_path, recipe, folder), tmp_path / "run")
