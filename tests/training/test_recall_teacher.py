"""Heads that are taught what to retrieve."""

from __future__ import annotations

import pytest
import torch

from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.training.recall import RecallTeacher
from mocgen_kernels import Kind

CONFIG = DiTConfig(
    width=32, depth=3, heads=2, vocabulary=10, rope_axes=(4, 4, 4, 4), refine_width=8, refine_blocks=1,
    latent_size=4, rotated_routing=False,
)  # fmt: skip
HERO, OTHER = [0, 0, 0, 0], [1, 0, 0, 0]


def shots(levels: list[float]) -> list[NoisyShot]:
    generator = torch.Generator().manual_seed(0)
    return [
        NoisyShot(
            index=2 * i,  # gaps are allowed
            caption=torch.ones(1, 8, dtype=torch.long),
            latents=torch.randn(1, 8, 8, 4, 4, generator=generator),
            t=torch.tensor([level]),
        )
        for i, level in enumerate(levels)
    ]


@pytest.fixture
def taught() -> tuple[MoCDiT, RecallTeacher]:
    torch.manual_seed(0)
    model, teacher = MoCDiT(CONFIG), RecallTeacher(CONFIG)
    teacher.watch(model)
    return model, teacher


def test_the_loss_is_the_share_of_the_true_contexts(taught):
    """One head of one layer is asked: share of the first shot's two groups among all earlier contexts."""
    model, teacher = taught
    _, scene = model.run(shots([1.0, 1.0, 0.1]), prompt=None, routing=Routing())
    q, k = teacher._seen[1]
    assert q.shape[2] == 1
    labels = torch.tensor([[HERO, OTHER, HERO]])
    covered = torch.zeros(1, 3, 8, dtype=torch.bool)
    covered[0, 2, 5] = True
    descriptors = torch.stack([part.mean(1) for part in k.split(scene.lengths, dim=1)], 1)[0, :6, 0]
    assert [scene.kinds[c] for c in (1, 2)] == [Kind.VIDEO] * 2

    def entropy(tokens: torch.Tensor) -> torch.Tensor:
        shares = (tokens @ descriptors.T / 4).softmax(-1)
        return -shares[:, [1, 2]].sum(-1).log().mean()

    caption, token = scene.text[2], scene.video[2].start + 5
    expected = (entropy(q[0, caption, 0]) + entropy(q[0, token : token + 1, 0])) / 2
    torch.testing.assert_close(teacher.loss(scene, covered, labels, clean=2), expected)


def test_nothing_is_asked_where_nothing_is_to_be_found(taught):
    model, teacher = taught
    _, scene = model.run(shots([1.0, 1.0, 0.1]), prompt=None, routing=Routing())
    covered = torch.ones(1, 3, 8, dtype=torch.bool)
    labels = torch.tensor([[OTHER, OTHER, HERO]])
    assert teacher.loss(scene, covered, labels, clean=2) == 0


def test_training_by_it_finds_the_true_shot(taught):
    model, teacher = taught
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    labels = torch.tensor([[HERO, OTHER, HERO]])
    covered = torch.ones(1, 3, 8, dtype=torch.bool)
    losses = []
    for _ in range(30):
        _, scene = model.run(
            shots([1.0, 1.0, 0.1]), prompt=torch.ones(1, 8, dtype=torch.long), routing=Routing()
        )
        loss = teacher.loss(scene, covered, labels, clean=2)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
