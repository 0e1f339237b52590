"""Sketches of the world's shots, and how a run learns to draw them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mocgen.errors import TrainingError
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.batches import Batches
from mocgen.training.config import parse_config
from mocgen.training.data import load_pool
from mocgen.training.run import train
from mocgen.training.sources import WorldSource
from mocgen.training.world import MOTIONS, PLACES, STOP_WORDS, WORDS, object_mask, sample_cast
from mocgen.training.world.camera import fitting_cameras
from mocgen.training.world.sketches import sketch

pytestmark = pytest.mark.usefixtures("_own_threads")


@pytest.mark.parametrize(
    ("motion", "camera"),
    [(motion, camera) for motion in MOTIONS for camera in ("", *fitting_cameras(motion))],
)
def test_a_sketch_is_where_the_object_is(motion: str, camera: str):
    """Centre and extent of the rendered ball, as the camera sees it."""
    shot = sample_cast(np.random.default_rng(3), clips=1).shots[0]
    look = replace(shot.look, shape="ball")
    shot = replace(shot, look=look, motion=motion, place=PLACES[0], camera=camera)
    x, y, radius, cos, sin, stretch = sketch(shot, 8).T
    mask = object_mask(shot, frames=8, size=96)
    whole = (np.minimum(x, y) > radius) & (np.maximum(x, y) < 1 - radius)  # within the picture
    assert whole.sum() > 3
    weight = (mask / mask.sum((1, 2), keepdims=True))[whole]
    places = (np.arange(96) + 0.5) / 96
    np.testing.assert_allclose((weight * places).sum((1, 2)), x[whole], atol=0.01)
    np.testing.assert_allclose((weight * places[:, None]).sum((1, 2)), y[whole], atol=0.01)
    np.testing.assert_allclose(mask.mean((1, 2))[whole], (np.pi * radius**2 * stretch)[whole], rtol=0.15)
    np.testing.assert_allclose(cos**2 + sin**2, 1, rtol=1e-5)
    assert (np.ptp(sin) > 0.5) == (motion == "spins")


def test_a_run_learns_sketches_first_and_keeps_them(recipe: Path, full_recipe: str, tmp_path: Path):
    recipe.write_text(full_recipe)
    heard = []
    model = train(recipe, tmp_path / "run", on_progress=heard.append)
    assert [p.done for p in heard if p.part == "sketches"] == [1, 2, 3]
    weights = load_file(model / "model.safetensors")
    learned = load_file(tmp_path / "run" / "sketches.safetensors")
    assert all(weights[f"dit.sketcher.{name}"].equal(value.half()) for name, value in learned.items())
    assert weights["dit.sketch_in.weight"].abs().max() > 0  # it begins at zero: the DiT learned to use them


def test_sketches_of_a_killed_run_are_the_same(recipe: Path, full_recipe: str, tmp_path: Path):
    recipe.write_text(full_recipe)
    train(recipe, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(progress) -> None:
        if progress.part == "sketches" and progress.done == 3:
            raise Killed

    with pytest.raises(Killed):  # after step 3, of which only two are saved
        train(recipe, tmp_path / "killed", on_progress=kill)
    train(recipe, tmp_path / "killed", resume=True)
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "killed"))
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 3\nbatch = 8\n", "", r"set sketch_training\.steps"),
        ("sketch_frames = 8\n", "", r"set model\.sketch_frames"),
        ("paint_width = 8\n", "", r"set model\.paint_width"),
        ("sketch_frames = 8\n", "sketch_frames = 4\n", r"data\.frames must be 4"),
        ("rotated_routing = false", "rotated_routing = true", "recall_weight needs"),
    ],
)
def test_what_does_not_fit_is_named(
    recipe: Path, full_recipe: str, tmp_path: Path, old: str, new: str, said: str
):
    recipe.write_text(full_recipe.replace(old, new))
    with pytest.raises(TrainingError, match=said):
        train(recipe, tmp_path / "run")


def test_some_sketches_are_wiped_out(finished, full_recipe: str):
    config = parse_config(full_recipe, finished.recipe)
    training = replace(config.training, sketch_dropout=0.25)
    source = WorldSource(load_pool(finished.folder / "pool.safetensors"), training)
    vocabulary = Vocabulary.of(WORDS, STOP_WORDS)
    batches = Batches(source, vocabulary, config.model_for(len(vocabulary)), training)
    stage = replace(training.stages[0], batch=200)
    radii = batches.draw(stage, torch.Generator().manual_seed(0)).sketches[..., 2]
    assert 0.15 < (radii == 0).all(-1).float().mean() < 0.35
    assert ((radii > 0).all(-1) | (radii == 0).all(-1)).all()
