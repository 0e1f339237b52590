"""Runs that start from a trained model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mocgen.bundle import load_bundle, save_bundle
from mocgen.errors import TrainingError
from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.training.config import DiTTraining, Stage, TrainConfig
from mocgen.training.init import load_start
from mocgen.training.run import train

pytestmark = pytest.mark.usefixtures("_own_threads")

MORE = """
init = "{init}"
only_attention = {only_attention}
threads = 1
probe_every = 1

[data]
looks = 4
clips = 2
codec_looks = 2
workers = 1

[[training.stages]]
steps = 2
batch = 2
shots = 2
top_k = 2
"""


def tune(folder: Path, init: str, *, only_attention: bool = False, extra: str = "") -> dict:
    """Weights after two more steps."""
    recipe = folder / "more.toml"
    recipe.write_text(MORE.format(init=init, only_attention=str(only_attention).lower()) + extra)
    return load_file(train(recipe, folder / "more") / "model.safetensors")


def test_a_run_goes_on_from_a_model(finished, tmp_path: Path) -> None:
    before = load_file(finished.folder / "model" / "model.safetensors")
    after = tune(tmp_path, str(finished.folder / "model"))
    assert after.keys() == before.keys()
    assert all(after[name].equal(before[name]) for name in before if name.startswith("codec."))
    moved = {name for name in before if not after[name].equal(before[name])}
    assert "dit.blocks.0.attention.qkv.weight" in moved
    assert "dit.blocks.0.feed_forward.up.weight" in moved
    gap = (after["dit.patch_in.weight"] - before["dit.patch_in.weight"]).float().abs().max()
    assert gap < 0.1  # fresh weights would be further away
    assert not (tmp_path / "more" / "codec.safetensors").exists()


def test_only_attention_leaves_everything_else(finished, tmp_path: Path) -> None:
    before = load_file(finished.folder / "model" / "model.safetensors")
    after = tune(tmp_path, str(finished.folder / "model"), only_attention=True)
    moved = {name for name in before if not after[name].equal(before[name])}
    assert moved
    assert all(".attention." in name for name in moved)


def test_a_model_is_given_parts_that_change_nothing_at_first(finished, tmp_path: Path) -> None:
    whole = load_bundle(str(finished.folder / "model"), device=torch.device("cpu"), dtype=torch.float32)
    plain = MoCDiT(replace(whole.dit.config, stem_width=None, readout=None))
    save_bundle(replace(whole, dit=plain), tmp_path / "plain", training="")
    training = DiTTraining(stages=(Stage(steps=1, batch=1, shots=1),))
    added = {"stem_width": 16, "stem_blocks": 2, "readout": 1, "sketch_frames": 4, "paint_width": 8}
    parts = DiTConfig(**added)
    before = load_start(TrainConfig(init=str(tmp_path / "plain"), training=training))
    after = load_start(TrainConfig(init=str(tmp_path / "plain"), model=parts, training=training))
    assert before is not None
    assert after is not None
    assert after.dit.config == replace(plain.config, **added)
    config = before.dit.config
    latents = torch.randn(1, 4, config.latent_channels, config.latent_size, config.latent_size)
    shot = NoisyShot(
        index=0,
        caption=torch.ones(1, 8, dtype=torch.long),
        latents=latents,
        t=torch.ones(1),
        sketch=torch.rand(1, 4, 6),
    )
    with torch.inference_mode():
        one, other = (m.dit([shot], routing=Routing())[0] for m in (before, after))
    assert one.equal(other)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no-such-model"):
        tune(tmp_path, str(tmp_path / "no-such-model"))


@pytest.mark.parametrize("table", ["[model]\nrefine_blocks = 2\n", "[codec]\nwidth = 32\n"])
def test_sizes_beside_a_model_are_refused(finished, tmp_path: Path, table: str) -> None:
    with pytest.raises(TrainingError, match="brings its own sizes"):
        tune(tmp_path, str(finished.folder / "model"), extra=table)


def test_source_and_model_may_stand_on_the_command_line(finished, run_mocgen, tmp_path: Path) -> None:
    text = MORE.format(init="", only_attention="false").replace('init = ""\n', "")
    (tmp_path / "more.toml").write_text(text)
    start = str(finished.folder / "model")
    line = ("train", "more.toml", "--out", "more", "--data", "world", "--init", start)
    assert run_mocgen(*line).code == 0
    kept = (tmp_path / "more" / "config.toml").read_text()
    assert kept == f'source = "world"\ninit = "{start}"\n{text}'
    assert run_mocgen(*line, "--resume").code == 0
    other = run_mocgen("train", "more.toml", "--out", "more", "--resume")
    assert "another configuration" in other.err
    (tmp_path / "more.toml").write_text(kept)
    twice = run_mocgen("train", "more.toml", "--out", "twice", "--init", start)
    assert "init is given on the command line and in more.toml" in twice.err
