"""The stem learns to tell looks before the DiT learns to draw them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mocgen.errors import TrainingError
from mocgen.model.config import DiTConfig
from mocgen.training.config import StemTraining
from mocgen.training.data import load_pool
from mocgen.training.optim import OptimConfig
from mocgen.training.run import train
from mocgen.training.state import Deadline
from mocgen.training.stem import draw_frames, train_stem

pytestmark = pytest.mark.usefixtures("_own_threads")


def test_looks_of_a_small_pool_are_learned(finished, tmp_path: Path) -> None:
    """Four looks are told apart soon: the loss falls from about that of guessing to a fraction of it."""
    pool = load_pool(finished.folder / "pool.safetensors")
    training = StemTraining(steps=60, batch=32, optim=OptimConfig(adamw_lr=1e-2, warmup=5))
    losses: list[float] = []
    config = DiTConfig(stem_width=16, stem_blocks=1)
    stem = train_stem(
        config, training, pool, seed=0, state=tmp_path / "state.safetensors", save_every=100,
        on_step=lambda step, loss: losses.append(loss), device=torch.device("cpu"), deadline=Deadline(),
    )  # fmt: skip
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    with torch.inference_mode():
        assert stem(pool.latents[0, :1].float()).shape == (1, 8, 16, 4, 4)


def test_frames_are_clean_or_noisy_by_half(finished) -> None:
    pool = load_pool(finished.folder / "pool.safetensors")
    still = replace(pool, latents=torch.zeros_like(pool.latents))
    labels = torch.arange(4)[:, None].expand(4, 4)
    frames = draw_frames(still, labels, 400, torch.Generator().manual_seed(0))
    clean = (frames.latents == 0).flatten(1).all(1).float().mean()
    assert 0.4 < clean < 0.6
    assert frames.latents.std() < 0.7  # the noisiest still show most of what is there
    assert set(frames.looks[:, 0].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("line", ["steps = 1", "frozen = true"])
def test_a_model_without_a_stem_cannot_have_it_trained(finished, tmp_path: Path, line: str) -> None:
    recipe = tmp_path / "recipe.toml"
    text = finished.recipe.read_text().replace("stem_width = 8\nstem_blocks = 1\n", "")
    recipe.write_text(text.replace("steps = 3\nfrozen = true", line))
    with pytest.raises(TrainingError, match=r"set model\.stem_width"):
        train(recipe, tmp_path / "run")
