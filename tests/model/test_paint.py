"""The painter: objects in their own coordinates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.paint import FEATURES, Painter, place_features

CONFIG = DiTConfig(
    width=32, depth=1, heads=1, vocabulary=10, latent_size=8, refine_width=16, refine_blocks=1,
    rope_axes=(8, 8, 8, 8), sketch_frames=8, sketch_width=16, sketch_blocks=1, paint_width=16, paint_blocks=2,
)  # fmt: skip


def sketch(*, x=0.5, radius=0.25, turn=0.0) -> torch.Tensor:
    """One frame, (1, 6)."""
    return torch.tensor([[x, 0.5, radius, math.cos(turn), math.sin(turn), 1.0]])


def test_a_turned_object_looks_the_same_from_its_own_places():
    upright, turned = (place_features(sketch(turn=turn), 16)[0] for turn in (0.0, math.pi / 2))
    assert upright.shape == (FEATURES, 16, 16)
    fixed = [4, 5]  # where a place lies before the turn is undone
    own = [channel for channel in range(FEATURES) if channel not in fixed]
    clockwise = torch.rot90(upright, -1, dims=(1, 2))
    torch.testing.assert_close(turned[own], clockwise[own], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned[fixed], upright[fixed])
    assert not torch.allclose(turned[own], upright[own], atol=0.1)


def test_features_are_those_of_the_place():
    seen = place_features(sketch(x=0.53125), 16)[
        0, :, 8, 10
    ]  # 2 places right of the centre, half a place below
    u, v = 2 / 16 / 0.25, 0.5 / 16 / 0.25
    near = math.exp(-((u * u + v * v) ** 2) / 1.6**4)
    assert seen[:6].tolist() == pytest.approx(
        [near * one for one in (1, u, v, math.hypot(u, v), u, v)], rel=1e-4
    )
    assert seen[7].item() == pytest.approx(near * math.cos(math.pi * u), abs=1e-5)
    soft = (u * u + v * v) / (u * u + v * v + 0.05)
    assert seen[-1].item() == pytest.approx(near * soft * math.cos(8 * math.atan2(v, u)), abs=1e-5)


def test_the_painter_learns_what_conditions_mean():
    """Two conditions, two pictures with an edge along the object's axis: also at turns not trained on."""
    torch.manual_seed(0)
    painter = Painter(replace(CONFIG, latent_channels=1))
    optimizer = torch.optim.AdamW(painter.parameters(), lr=5e-3)
    conditions = torch.randn(2, 32)

    def wanted(which: torch.Tensor, turns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sketches = torch.cat([sketch(turn=turn) for turn in turns.tolist()])
        right = place_features(sketches, 8)[:, 1]  # near · u
        return sketches[:, None], right.sign() * (1 - 2 * which[:, None, None])

    for _ in range(150):
        which, turns = torch.randint(2, (16,)), 2 * torch.rand(16)
        sketches, target = wanted(which, turns)
        near = place_features(sketches[:, 0], 8)[:, 0]
        error = ((painter(sketches, conditions[which])[:, 0, 0] - target).square() * near).mean()
        error.backward()
        optimizer.step()
        optimizer.zero_grad()
    which, turns = torch.tensor([0, 1, 0, 1]), torch.tensor([3.0, 3.5, 4.0, 4.5])
    sketches, target = wanted(which, turns)
    inside = place_features(sketches[:, 0], 8)[:, 0] > 0.9
    with torch.no_grad():
        painted = painter(sketches, conditions[which])[:, 0, 0]
    assert ((painted * target)[inside] > 0).float().mean() > 0.9


@pytest.fixture(scope="module")
def model(random_model) -> MoCDiT:
    return random_model(CONFIG)


def test_pictures_contain_what_is_painted(model):
    shot = NoisyShot(
        index=0,
        caption=torch.ones(1, 8, dtype=torch.long),
        latents=torch.randn(1, 8, 8, 8, 8, generator=torch.Generator().manual_seed(0)),
        t=torch.tensor([0.1]),
        sketch=sketch().expand(1, 8, 6),
    )
    blank = MoCDiT(CONFIG).eval()
    blank.load_state_dict(model.state_dict())
    for parameter in blank.painter.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.inference_mode():
        painted, unpainted = (one([shot], routing=Routing())[0] for one in (model, blank))
        assert not torch.allclose(painted, unpainted)
        part = model([replace(shot, wanted=(6, 1))], routing=Routing())[0]
        torch.testing.assert_close(part, painted[:, [6, 1]])
        for nothing in (None, torch.zeros(1, 8, 6)):
            painted, unpainted = (
                one([replace(shot, sketch=nothing)], routing=Routing())[0] for one in (model, blank)
            )
            assert painted.equal(unpainted)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, paint_width=None), "paints no objects"),
        (replace(CONFIG, sketch_frames=None), "needs sketches"),
    ],
)
def test_a_painter_needs_a_width_and_sketches(config: DiTConfig, said: str):
    with pytest.raises(ValueError, match=said):
        Painter(config)
