"""Single steps of the DiT's training: accumulated gradients, heavier objects, the loss curve."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.batches import Batch, Batches
from mocgen.training.config import DiTTraining, Stage
from mocgen.training.curve import LossTable, plot_loss, running_mean
from mocgen.training.data import ClipPool
from mocgen.training.dit import Pupil, backward, flow_loss
from mocgen.training.ranks import Ranks
from mocgen.training.sources import WorldSource
from mocgen.training.stem import stem_error
from mocgen.training.world import STOP_WORDS, WORDS, sample_cast

MODEL = DiTConfig(
    width=32, depth=1, heads=1, rope_axes=(8, 8, 8, 8), refine_width=8, refine_blocks=1,
    latent_size=4, vocabulary=len(WORDS) + 1,
)  # fmt: skip
STAGE = Stage(steps=1, batch=2, shots=2)
TRAINING = DiTTraining(stages=(STAGE,))


@pytest.fixture
def batches() -> Batches:
    shots = [sample_cast(np.random.default_rng(i), clips=2).shots for i in range(6)]
    latents = torch.randn(6, 2, 8, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    objects = torch.zeros(6, 2, 8, 4, 4, dtype=torch.uint8)
    objects[..., :2, :2] = 255
    pool = ClipPool(latents=latents.half(), objects=objects, shots=tuple(shots))
    return Batches(WorldSource(pool, TRAINING), Vocabulary.of(WORDS, STOP_WORDS), MODEL, TRAINING)


def gradient(model: MoCDiT) -> torch.Tensor:
    weight = model.patch_out.bias.grad
    assert weight is not None
    return weight.clone()


def one_step(pupil: Pupil, batches: Batches, accumulate: int, number: int) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the step of one process."""
    pupil.zero_grad()
    training = replace(TRAINING, stages=(replace(STAGE, accumulate=accumulate),))
    loss = backward(pupil, batches, training, seed=5, step=3, ranks=Ranks(number=number, count=2))
    return loss, gradient(pupil.dit)


def test_accumulated_gradients_are_the_mean_of_those_of_as_many_processes(batches):
    torch.manual_seed(0)
    pupil = Pupil(MoCDiT(MODEL))
    loss, together = one_step(pupil, batches, 2, 0)
    losses, gradients = zip(*(one_step(pupil, batches, 1, number) for number in (0, 1)), strict=True)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    torch.testing.assert_close(together, (gradients[0] + gradients[1]) / 2, rtol=1e-2, atol=1e-4)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-1)


def loss_of(batch: Batch, model: MoCDiT, weight: float) -> float:
    with torch.no_grad():
        return flow_loss(model, batch, STAGE, torch.Generator(), object_weight=weight)[0].item()


def test_errors_on_the_object_weigh_more(batches):
    model = MoCDiT(MODEL)  # predicts zeros
    batch = batches.draw(STAGE, torch.Generator().manual_seed(1))
    on_object = replace(batch, latents=batch.latents * (batch.objects[:, :, :, None] > 0))
    beside = replace(batch, latents=batch.latents * (batch.objects[:, :, :, None] == 0))
    heavier, lighter = 4 / 1.75, 1 / 1.75  # a quarter of the latents is covered
    assert loss_of(on_object, model, 4.0) == pytest.approx(heavier * loss_of(on_object, model, 1.0), rel=1e-3)
    assert loss_of(beside, model, 4.0) == pytest.approx(lighter * loss_of(beside, model, 1), rel=1e-3)


def test_what_the_stem_sees_of_the_prediction_counts_the_more_the_less_noise_there_is(batches):
    torch.manual_seed(0)
    model = MoCDiT(replace(MODEL, stem_width=8))  # predicts zeros
    model.stem.requires_grad_(False)
    batch = replace(batches.draw(STAGE, torch.Generator().manual_seed(1)), clean=0)

    def loss(t: float, stem_weight: float) -> torch.Tensor:
        at = replace(batch, t=torch.full_like(batch.t, t))
        return flow_loss(model, at, STAGE, torch.Generator(), object_weight=2.0, stem_weight=stem_weight)[0]

    frames = batch.latents[:, :, list(batch.frames)].flatten(0, 1)
    error = stem_error(model.stem, torch.zeros_like(frames), frames)
    weight = 1 + batch.objects[:, :, list(batch.frames)].flatten(0, 1)
    expected = (error * weight).mean() / weight.mean()
    for t in (0.2, 0.8):
        difference = loss(t, 3.0) - loss(t, 0.0)
        torch.testing.assert_close(difference, 3.0 * t * expected, rtol=0.03, atol=1e-4)
    assert stem_error(model.stem, frames, frames).abs().max() == 0
    loss(0.8, 3.0).backward()
    assert gradient(model).abs().max() > 0
    assert all(weight.grad is None for weight in model.stem.parameters())


def test_the_loss_table_keeps_memory_where_it_was_measured_and_is_drawn(tmp_path: Path):
    table = LossTable(tmp_path / "loss.csv")
    for step in range(1, 5):
        table.add(step, 1 / step, 0.5, memory=0.25 * step if step % 2 == 0 else None)
    with table.path.open(newline="") as file:
        assert [row["memory"] for row in csv.DictReader(file)] == ["", "0.5000", "", "1.0000"]
    plot_loss(table.path, tmp_path / "with.png", [2])
    again = LossTable(tmp_path / "loss.csv")  # a resumed run
    again.add(3, 0.1, 0.5)
    with table.path.open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    with_gap = imread(tmp_path / "with.png")
    orange = (with_gap[..., 0] > 0.9) & (with_gap[..., 2] < 0.3)
    assert orange.sum() > 50


def test_running_means():
    assert running_mean([1, 2, 3, 4], 1) == [1, 1.5, 2.5, 3.5]
    assert running_mean([1, 2, 3], 5) == [1, 1.5, 2]
