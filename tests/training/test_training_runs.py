"""A whole training run: what it leaves in its folder, and that a killed one goes on as if uninterrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

from mocgen.bundle import load_bundle
from mocgen.errors import TrainingError
from mocgen.pipeline import generate
from mocgen.settings import Settings
from mocgen.storyboard import scene_from_prompts
from mocgen.training.progress import Progress
from mocgen.training.run import train
from mocgen.training.state import Deadline

pytestmark = pytest.mark.usefixtures("_own_threads")

KILLED = """
import os, signal, sys
from pathlib import Path
from mocgen.training.run import train

def stop(progress):
    if (progress.part, progress.done) == (sys.argv[3], int(sys.argv[4])):
        os.kill(os.getpid(), signal.SIGKILL)

train(Path(sys.argv[1]), Path(sys.argv[2]), resume=True, on_progress=stop)
"""


def steps_of(table: Path) -> list[int]:
    """The steps of a table of losses, every loss of which is a number."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["loss"]) < 1e6 for row in rows)
    return [int(row["step"]) for row in rows]


def test_a_run_tells_what_it_does(finished) -> None:
    assert list(dict.fromkeys(progress.part for progress in finished.heard)) == [
        "frames", "codec", "shots", "stem", "model", "decoder",
    ]  # fmt: skip
    for part, total in (("frames", 2), ("codec", 3), ("shots", 4), ("stem", 3), ("model", 5), ("decoder", 3)):
        told = [progress for progress in finished.heard if progress.part == part]
        assert told[-1].done == told[-1].total == total


def test_a_run_leaves_a_model_that_makes_videos(finished, tmp_path: Path) -> None:
    assert steps_of(finished.folder / "loss.csv") == [1, 2, 3, 4, 5]
    assert imread(finished.folder / "loss.png").std() > 0
    sheet = imread(finished.folder / "samples" / "step-000005.png")
    assert sheet.shape[:2] == (3 * 32, 4 * 2 * 32)  # three scenes; first and last frame of four shots
    folder = finished.folder / "model"
    model = load_bundle(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert (model.dit.config.latent_size, model.codec.config.size) == (4, 32)
    assert model.defaults.top_k == 1
    assert json.loads((folder / "config.json").read_text())["training"] == finished.recipe.read_text()
    settings = Settings(model=str(folder), steps=1, upscale=False)
    made = generate(scene_from_prompts(["a red star", "a cube"]), tmp_path / "v.mp4", settings)
    assert (made.frames, made.width, made.height) == (16, 32, 32)


def test_a_run_killed_again_and_again_ends_with_the_same_weights(
    finished, recipe: Path, tmp_path: Path
) -> None:
    whole = load_file(finished.folder / "model" / "model.safetensors")
    run = tmp_path / "killed"
    for part, done in (("codec", 3), ("shots", 2), ("stem", 3), ("model", 4), ("decoder", 3)):
        arguments = [sys.executable, "-c", KILLED, str(recipe), str(run), part, str(done)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        result = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert not (run / "model").exists()
    heard: list[Progress] = []
    resumed = load_file(train(recipe, run, resume=True, on_progress=heard.append) / "model.safetensors")
    assert {progress.part for progress in heard} == {"frames", "decoder"}  # the rest was done
    assert resumed.keys() == whole.keys()
    assert all(resumed[name].equal(value) for name, value in whole.items())
    assert steps_of(run / "loss.csv") == [1, 2, 3, 4, 5]
    assert steps_of(run / "codec-loss.csv") == [1, 2, 3]
    assert steps_of(run / "stem-loss.csv") == [1, 2, 3]


def test_a_run_that_pauses_after_every_step_ends_with_the_same_weights(
    finished, recipe: Path, tmp_path: Path
) -> None:
    whole = load_file(finished.folder / "model" / "model.safetensors")
    pauses = 0
    while (made := train(recipe, tmp_path / "run", resume=True, minutes=0)) is None:
        pauses += 1
    assert pauses == 3 + 3 + 5 + 3
    slices = load_file(made / "model.safetensors")
    assert all(slices[name].equal(value) for name, value in whole.items())


def test_nothing_is_lost_when_time_runs_out_while_a_sheet_is_drawn(
    finished, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked after the state was written, or was not, must not decide on the pause."""
    whole = load_file(finished.folder / "model" / "model.safetensors")
    asked = iter(range(10**6))
    monkeypatch.setattr(Deadline, "passed", property(lambda self: next(asked) % 2 == 1))
    for _ in range(50):
        if (made := train(recipe, tmp_path / "run", resume=True)) is not None:
            break
    assert made is not None
    weights = load_file(made / "model.safetensors")
    assert all(weights[name].equal(value) for name, value in whole.items())


def test_a_frozen_stem_is_what_it_was_before_the_model_learned(finished) -> None:
    model = load_file(finished.folder / "model" / "model.safetensors")
    for name, value in load_file(finished.folder / "stem.safetensors").items():
        assert model[f"dit.stem.{name}"].equal(value.half())


def test_another_seed_gives_other_weights(finished, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("seed = 3", "seed = 4"))
    one = load_file(finished.folder / "model" / "model.safetensors")
    other = load_file(train(recipe, tmp_path / "other") / "model.safetensors")
    assert not one["dit.patch_in.weight"].equal(other["dit.patch_in.weight"])
    assert not one["codec.encoder.1.weight"].equal(other["codec.encoder.1.weight"])


def test_a_finished_run_is_not_done_again(finished) -> None:
    before = (finished.folder / "model" / "model.safetensors").read_bytes()
    heard: list[Progress] = []
    train(finished.recipe, finished.folder, resume=True, on_progress=heard.append)
    assert heard == []
    assert (finished.folder / "model" / "model.safetensors").read_bytes() == before


def test_a_folder_that_holds_a_run_is_only_resumed_when_asked(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(recipe.read_text())
    with pytest.raises(TrainingError, match="--resume"):
        train(recipe, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.toml"]


def test_a_run_is_not_resumed_under_another_configuration(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("seed = 9\n")
    with pytest.raises(TrainingError, match="another configuration"):
        train(recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.toml").read_text() == "seed = 9\n"


@pytest.mark.parametrize("out", ["/proc/run", "recipe.toml", "recipe.toml/run"])
def test_a_folder_that_cannot_be_written_is_refused(recipe: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(TrainingError, match="cannot write to"):
        train(recipe, tmp_path / out)
    assert list(tmp_path.iterdir()) == [recipe]


def test_the_command_line_prints_the_folder_of_the_model(run_mocgen, recipe: Path) -> None:
    outcome = run_mocgen("train", "recipe.toml", "--out", "run")
    assert (outcome.code, outcome.out, outcome.err) == (0, "run/model\n", "")
    refused = run_mocgen("train", "recipe.toml", "--out", "run")
    assert refused.code == 1
    assert "--resume" in refused.err
