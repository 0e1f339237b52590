"""What painters are taught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.model.layers import Stem
from mocgen.model.sketch import RADIUS
from mocgen.training.batches import Batch
from mocgen.training.config import DiTTraining, Stage
from mocgen.training.dit import Pupil, flow_loss, step_loss
from mocgen.training.paint import PaintTeacher
from mocgen.training.stem import stem_error

CONFIG = DiTConfig(
    width=32, depth=1, heads=1, vocabulary=10, rope_axes=(8, 8, 8, 8), refine_width=8, refine_blocks=1,
    latent_size=4, sketch_frames=8, sketch_width=16, sketch_blocks=1, paint_width=8, paint_blocks=1,
)  # fmt: skip
STAGE = Stage(steps=1, batch=2, shots=2)


@pytest.fixture
def batch() -> Batch:
    """Two scenes of a clean and a noisy shot, two frames of which count; an eighth of them is covered."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.zeros(2, 2, 8, 4, 4)
    objects[..., 1, 1:3] = 1.0
    return Batch(
        latents=torch.randn(2, 2, 8, 8, 4, 4, generator=generator),
        objects=objects,
        looks=None,
        sketches=torch.tensor([0.5, 0.4, 0.3, 1.0, 0.0, 1.0]).expand(2, 2, 8, 6).clone(),
        noise=torch.randn(2, 2, 8, 8, 4, 4, generator=generator),
        t=torch.tensor([[1.0, 0.3], [1.0, 0.6]]),
        captions=torch.ones(2, 2, 8, dtype=torch.long),
        prompt=None,
        shots=(0, 1),
        clean=1,
        frames=(2, 5),
    )


@pytest.fixture
def taught() -> tuple[MoCDiT, PaintTeacher]:
    torch.manual_seed(0)
    model, teacher = MoCDiT(CONFIG), PaintTeacher()
    teacher.watch(model)
    return model, teacher


def test_the_loss_is_the_error_where_the_object_is(taught, batch):
    model, teacher = taught
    painted = []
    model.painter.register_forward_hook(lambda painter, inputs, output: painted.append(output.float()))
    stem = Stem(8, 8, 1).requires_grad_(False)
    flow_loss(model, batch, STAGE, torch.Generator())
    (found,) = painted  # of the noisy shot of both scenes
    target = batch.latents[:, 1, [2, 5]]
    inside = (slice(None), slice(None), slice(None), 1, slice(1, 3))
    expected = (found[inside] - target[inside]).square().mean()
    put = target.clone()
    put[inside] = found[inside]
    seen = stem_error(stem, put, target)[:, :, 1, 1:3].mean()
    torch.testing.assert_close(teacher.loss(batch, stem), expected + seen, rtol=1e-4, atol=1e-5)
    flow_loss(model, batch, STAGE, torch.Generator())
    torch.testing.assert_close(teacher.loss(batch, None), expected, rtol=1e-4, atol=1e-5)


def test_shots_without_a_sketch_do_not_count(taught, batch):
    model, teacher = taught

    def loss(wiped: Batch) -> float:
        flow_loss(model, wiped, STAGE, torch.Generator())
        return teacher.loss(wiped, None).item()

    sketches = batch.sketches.clone()
    sketches[1, 1, :, RADIUS] = 0
    garbled = batch.latents.clone()
    garbled[1, 1] = 100
    with torch.no_grad():
        assert loss(replace(batch, sketches=sketches, latents=garbled)) < 10
        assert loss(replace(batch, sketches=torch.zeros_like(sketches))) == 0
        assert loss(replace(batch, sketches=None)) == 0


def test_what_is_painted_has_a_part_in_the_loss(batch):
    torch.manual_seed(0)
    pupil = Pupil(MoCDiT(CONFIG), paint=True)
    plain, weighted = (
        step_loss(pupil, batch, STAGE, torch.Generator(), DiTTraining(stages=(STAGE,), paint_weight=weight))
        for weight in (0.0, 0.5)
    )
    pupil.dit.painter.zero_grad()
    (weighted - plain).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pupil.dit.painter.leave.parameters())
    flow_loss(pupil.dit, batch, STAGE, torch.Generator())
    assert (weighted - plain).item() == pytest.approx(0.5 * pupil.paint.loss(batch, None).item(), rel=1e-3)
