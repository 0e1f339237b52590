"""The classifiers that tell looks from hidden states while a model learns."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.training.looks import CLASSES, LookTeacher, look_labels
from mocgen.training.world import Look

CONFIG = DiTConfig(
    width=32, depth=2, heads=1, rope_axes=(8, 8, 8, 8), refine_width=8, refine_blocks=1, latent_size=4,
)  # fmt: skip


def test_labels_tell_shape_pattern_and_colours():
    plain = Look(shape="ball", pattern="plain", color="red", color2=None)
    dotted = Look(shape="ring", pattern="dotted", color="black", color2="orange")
    assert look_labels(plain) == (0, 0, 0, 10)
    assert look_labels(dotted) == (5, 2, 9, 1)


def two_shots() -> list[NoisyShot]:
    """A clean shot and a noisy one, two of each."""
    return [
        NoisyShot(
            index=index,
            caption=torch.ones(2, 8, dtype=torch.long),
            latents=torch.randn(2, 8, 8, 4, 4),
            t=torch.full((2,), level),
        )
        for index, level in enumerate((1.0, 0.2))
    ]


@pytest.fixture
def taught() -> tuple[MoCDiT, LookTeacher, list[NoisyShot]]:
    torch.manual_seed(0)
    model = MoCDiT(CONFIG)
    teacher = LookTeacher(CONFIG)
    teacher.watch(model)
    return model, teacher, two_shots()


def objects(*, covered: bool) -> torch.Tensor:
    """The object covers the upper left token of the second frame group, or nothing."""
    mask = torch.zeros(2, 2, 8, 4, 4)
    mask[:, :, 4:, :2, :2] = float(covered)
    return mask


def test_only_tokens_of_the_object_are_asked(taught):
    model, teacher, shots = taught
    labels = torch.tensor([[[0, 1, 2, 3], [0, 1, 2, 3]]]).repeat(2, 1, 1)
    _, scene = model.run(shots, prompt=None, routing=Routing())
    hidden = {layer: x.detach().clone() for layer, x in teacher._seen.items()}
    loss = teacher.loss(scene, objects(covered=True), labels, clean=1)
    wanted = 0.0
    for head, layer, shot, share in (
        (teacher.clean, 0, 0, 1),
        (teacher.noisy, 0, 1, 0.5),
        (teacher.noisy, 1, 1, 0.5),
    ):
        token = scene.video[shot].start + 4  # four tokens in a group
        state = F.rms_norm(hidden[layer][:, token], (32,))
        parts = (4.0 * head(state)).split(CLASSES, dim=-1)
        wanted += share * sum(F.cross_entropy(part, labels[:, 0, i]) for i, part in enumerate(parts))
    torch.testing.assert_close(loss, torch.as_tensor(wanted), rtol=1e-4, atol=1e-4)
    _, scene = model.run(shots, prompt=None, routing=Routing())
    assert teacher.loss(scene, objects(covered=False), labels, clean=1).item() == 0


def test_the_model_learns_from_it(taught):
    model, teacher, shots = taught
    labels = torch.zeros(2, 2, 4, dtype=torch.long)
    _, scene = model.run(shots, prompt=None, routing=Routing())
    teacher.loss(scene, objects(covered=True), labels, clean=1).backward()
    gradient = model.patch_in.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
