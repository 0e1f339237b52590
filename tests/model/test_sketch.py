"""Sketches: what they say at each place, and the network that draws them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mocgen.denoise import ShotPlan
from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.sketch import MAPS, SketchModel, denormalised, normalised, sketch_maps
from mocgen.native_denoiser import NativeDenoiser, draw_sketch

CONFIG = DiTConfig(
    width=64, depth=1, heads=2, vocabulary=40, latent_size=8, refine_width=16, refine_blocks=1,
    rope_axes=(8, 8, 8, 8), sketch_frames=8, sketch_width=16, sketch_blocks=1,
)  # fmt: skip


def sketch(*, x=0.5, y=0.5, radius=0.25, turn=0.0, stretch=1.0) -> torch.Tensor:
    """One frame, (1, 1, 6)."""
    return torch.tensor([[[x, y, radius, math.cos(turn), math.sin(turn), stretch]]])


def test_maps_tell_where_in_the_object_a_place_lies():
    maps = sketch_maps(sketch(x=0.5625, y=0.3125, turn=math.pi / 2, stretch=0.5), 8)
    assert maps.shape == (1, 1, MAPS, 8, 8)
    near, u, v = maps[0, 0, :3]
    assert (near[2, 4], u[2, 4], v[2, 4]) == pytest.approx((1, 0, 0), abs=1e-6)  # the centre
    # a quarter turn clockwise: what lies to the right of the centre is at the top of the object
    assert u[2, 5] / near[2, 5] == pytest.approx(0, abs=1e-5)
    assert v[2, 5] / near[2, 5] == pytest.approx(-0.5)  # an eighth of the picture is half a radius
    assert u[3, 4] / near[3, 4] == pytest.approx(1.0)  # or a whole one, where it is squeezed to half
    assert near[7, 0] < 1e-6


def test_a_radius_of_zero_says_nothing():
    assert sketch_maps(sketch(radius=0.0), 8).abs().max() == 0


def test_normalised_and_back():
    drawn = torch.cat([sketch(x=0.3, turn=1.0), sketch(radius=0.1, turn=-2.0, stretch=0.9)], dim=1)
    torch.testing.assert_close(denormalised(normalised(drawn)), drawn)


@pytest.fixture(scope="module")
def model(random_model) -> MoCDiT:
    return random_model(CONFIG)


def test_a_sketch_is_a_function_of_caption_and_seed(model):
    caption = torch.tensor([[3, 4, 5, 0]])
    with torch.inference_mode():
        one, same = (draw_sketch(model.sketcher, caption, seed=1, size_seed=0) for _ in range(2))
        reseeded = draw_sketch(model.sketcher, caption, seed=2, size_seed=0)
        reworded = draw_sketch(model.sketcher, torch.tensor([[3, 5, 4, 0]]), seed=1, size_seed=0)
    assert one.shape == (1, 8, 6)
    assert one.equal(same)
    assert not one.equal(reseeded)
    assert not one.equal(reworded)
    torch.testing.assert_close(one[..., 3].square() + one[..., 4].square(), torch.ones(1, 8))


def test_the_network_learns_what_captions_mean():
    """Two captions, two places: after a hundred steps each sketch begins at its own."""
    torch.manual_seed(0)
    model = SketchModel(
        DiTConfig(vocabulary=4, caption_limit=8, sketch_frames=2, sketch_width=32, sketch_blocks=1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    places = torch.cat([sketch(x=0.3), sketch(x=0.7)]).expand(2, 2, 6)
    captions = torch.tensor([[1], [2]])
    for _ in range(100):
        which = torch.randint(2, (32,))
        clean, t = normalised(places[which]), torch.rand(32)
        noisy = t[:, None, None] * clean + (1 - t[:, None, None]) * torch.randn_like(clean)
        (model(noisy, t, captions[which]) - clean).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        drawn = torch.stack(
            [draw_sketch(model, captions[which][None], seed=9, size_seed=9)[0, :, 0] for which in (0, 1)]
        )
    torch.testing.assert_close(drawn, torch.tensor([[0.3, 0.3], [0.7, 0.7]]), atol=0.06, rtol=0)


def test_a_shot_is_drawn_after_its_sketch(model):
    shot = NoisyShot(
        index=0,
        caption=torch.ones(1, 8, dtype=torch.long),
        latents=torch.randn(1, 8, 8, 8, 8, generator=torch.Generator().manual_seed(0)),
        t=torch.tensor([0.1]),
    )
    left = sketch(x=0.2).expand(1, 8, 6)
    with torch.inference_mode():
        without, nothing, drawn = (
            model([replace(shot, sketch=s)], routing=Routing())[0] for s in (None, left * 0, left)
        )
        part = model([replace(shot, sketch=left, wanted=(6, 1))], routing=Routing())[0]
    assert without.equal(nothing)
    difference = (drawn - without).abs().mean((0, 1, 2, 3))  # (w,)
    assert difference[:4].mean() > 1.5 * difference[4:].mean()
    torch.testing.assert_close(part, drawn[:, [6, 1]])


def test_shots_of_another_length_are_drawn_without(model):
    denoiser = NativeDenoiser(model, shift=3.0)
    plan = ShotPlan(index=0, caption=torch.ones(1, 8, dtype=torch.long), frames=4, seed=0)
    assert denoiser._sketch(plan) is None
    assert denoiser._sketch(replace(plan, frames=8)) is not None
