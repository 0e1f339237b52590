"""Training configurations: every bad one is refused by name before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mocgen.errors import TrainingError
from mocgen.training.config import load_config
from mocgen.training.run import train

RECIPES = Path(__file__).parents[2] / "mocgen" / "training" / "recipes"


def test_a_configuration_is_read(recipe: Path) -> None:
    config = load_config(recipe)
    assert (config.seed, config.threads, config.data.looks) == (3, 1, 4)
    assert config.model.rope_axes == (8, 8, 8, 8)
    assert [stage.shots for stage in config.training.stages] == [1, 2]
    assert config.training.steps == 5
    assert config.codec_training.object_weight == 4.0  # a default
    fitted = config.model_for(77)
    assert (fitted.vocabulary, fitted.latent_size, fitted.latent_channels) == (77, 4, 8)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_ship_are_valid(path: Path) -> None:
    assert load_config(path).training.steps > 0


STAGE = "[[training.stages]]\nsteps = 1\nbatch = 1\nshots = 1\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = \n" + STAGE, "line 1"),
        ("[training\n", "line 1"),
        ("colour = 3\n" + STAGE, "unknown key colour"),
        ("[data]\nscenes = 3\n" + STAGE, "unknown key data.scenes"),
        (STAGE + "skips = 1\n", "unknown key training.stages.skips"),
        ("[training.optim]\nlr = 1\n" + STAGE, "unknown key training.optim.lr"),
        ("", "training is missing"),
        ("[[training.stages]]\nsteps = 1\nbatch = 1\n", "training.stages.shots is missing"),
        ("seed = " + "9" * 5000 + "\n" + STAGE, "cannot be read as TOML"),
        ('seed = "three"\n' + STAGE, "seed must be a whole number, not 'three'"),
        ("seed = true\n" + STAGE, "seed must be a whole number"),
        ("[data]\nlooks = 2.5\n" + STAGE, "data.looks must be a whole number, not 2.5"),
        ("data = 3\n" + STAGE, "data"),
        ('[training]\ncaption_dropout = "little"\n' + STAGE, "training.caption_dropout must be a number"),
        ("[model]\nwidth = 32\n" + STAGE, "rope_axes"),
        ("", "training"),
        ("[training]\nnoise_mean = 1\n", "stages"),
        ("[[training.stages]]\nsteps = 1\nshots = 1\n", "batch"),
        ("[training]\nstages = []\n", "one stage at least"),
        ("threads = 0\n" + STAGE, "threads must be above zero"),
        ("[data]\nlooks = -4\n" + STAGE, "data.looks must be above zero"),
        ("[data]\nlooks = 5\ncodec_looks = 6\n" + STAGE, "data.codec_looks must not exceed"),
        ("[data]\nframes = 6\n" + STAGE, "data.frames must be a multiple"),
        ("[codec]\nsize = 90\n" + STAGE, "codec.size must be a multiple"),
        ("[model]\nrope_axes = [8, 8]\n" + STAGE, "model.rope_axes must hold 4 entries"),
        (STAGE + STAGE.replace("shots = 1", "shots = 99"), "training.stages.shots must not exceed"),
        ("[data]\nclips = 1\n" + STAGE, "must not exceed data.clips"),
        ("[training]\nframes = 9\n" + STAGE, "training.frames must not exceed"),
    ],
)
def test_bad_configurations_are_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(TrainingError) as caught:
        train(path, tmp_path / "run")
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_configuration(tmp_path: Path, run_mocgen) -> None:
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    for name, named in (("none.toml", "no such training configuration"), (".", "."), ("noise.toml", "TOML")):
        outcome = run_mocgen("train", name, "--out", "run")
        assert outcome.code == 1
        assert outcome.err.count("\n") == 1
        assert named in outcome.err
        assert not (tmp_path / "run").exists()
