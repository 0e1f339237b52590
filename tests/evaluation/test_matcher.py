"""The matcher: reliable on true frames, near chance on noise, and what it rests on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mocgen.evaluation.backdrops import backdrop_distance
from mocgen.evaluation.matcher import match_look
from mocgen.evaluation.reading import agreement, look_agreement, read_shot
from mocgen.evaluation.scenes import captioned_shot
from mocgen.evaluation.templates import SIZE, all_looks, cut_out, templates
from mocgen.training.world import (
    COLORS,
    MOTIONS,
    Look,
    Pose,
    ShotSpec,
    object_mask,
    places,
    render_shot,
    tracks,
)

LOOKS = (
    Look(shape="star", pattern="checkered", color="yellow", color2="blue"),
    Look(shape="ring", pattern="dotted", color="black", color2="cyan"),
    Look(shape="cube", pattern="plain", color="white", color2=None),
    Look(shape="diamond", pattern="striped", color="pink", color2="purple"),
)


def shot(look: Look, *, place: str = "meadow", motion: str = "stands still") -> ShotSpec:
    pose = Pose(x=0.03, lift=0.01, size=0.4, phase=0.3, backdrop=11)
    return ShotSpec(look=look, place=place, motion=motion, pose=pose, caption="", full_caption="")


def test_there_is_a_template_for_every_look() -> None:
    looks = all_looks()
    assert len(looks) == len(set(looks)) == 6 * (10 + 3 * 10 * 9)
    assert {look for group in templates(8).looks for look in group} == set(looks)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.pattern} {look.shape}")
def test_a_template_of_any_colours_is_what_would_have_been_rendered(look: Look) -> None:
    bank = templates(8)
    group, member = next((g, m.index(look)) for g, m in enumerate(bank.looks) if look in m)
    colors = bank.mixing[group, 1:, member].view(2, 3)
    base = bank.fields[0].view(4, -1, bank.fields.shape[-1])[:3, :, group] / 2  # (3, P)
    shares = bank.shares[0].view(-1, 2, len(bank.looks))[:, :, group] / 2  # (P, 2)
    shown = base + torch.einsum("kc,pk->cp", colors, shares)
    spec = replace(shot(look, place="outer space"), pose=Pose(x=0, lift=0, size=0.42, phase=0, backdrop=0))
    video = torch.from_numpy(render_shot(spec, frames=1, size=SIZE)).movedim(-1, 1).float() / 255
    mask = torch.from_numpy(object_mask(spec, frames=1, size=SIZE))[:, None]
    behind = torch.from_numpy(places.paint("outer space", 0, SIZE).copy()).movedim(-1, 0)
    path = tracks.track(spec, 1)
    where = torch.tensor([[[path.x[0], path.y[0], path.radius[0]]]])
    rendered = cut_out(video - (1 - mask) * behind, where)[0, 0]
    assert (shown - rendered).abs().max() < 0.05
    assert (shown - rendered).abs().mean() < 0.005


def test_true_frames_are_read_as_what_they_show() -> None:
    found = []
    for number in range(12):
        spec = captioned_shot(5, number)
        found.append(agreement(read_shot(torch.from_numpy(render_shot(spec))), spec))
    rights = [sum(one[name] for one in found) for name in found[0]]
    assert min(rights) >= 11, found


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_is_read(motion: str) -> None:
    spec = shot(LOOKS[0], motion=motion)
    assert read_shot(torch.from_numpy(render_shot(spec))).motion == motion


def test_the_object_is_found_where_it_is() -> None:
    spec = shot(LOOKS[1], motion="moves right")
    path = tracks.track(spec, 8)
    found = match_look(torch.from_numpy(render_shot(spec)).movedim(-1, 1).float() / 255, "meadow").where
    true = torch.from_numpy(np.stack((path.x, path.y, path.radius), axis=1))
    assert (found - true).abs().max() < 0.04


def test_noise_is_read_at_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for number in range(8):
        noise = torch.randint(0, 256, (8, 96, 96, 3), generator=generator, dtype=torch.uint8)
        spec = captioned_shot(6, number)
        hits += look_agreement(read_shot(noise, place=spec.place).match.look, spec.look)["exact"]
    assert hits <= 1


def test_an_empty_place_is_near_its_variants_and_an_object_is_not() -> None:
    spec = shot(LOOKS[0], motion="moves left")
    frames = torch.from_numpy(render_shot(spec)).movedim(-1, 1).float() / 255
    inside = torch.from_numpy(object_mask(spec)) > 0.9
    outside = torch.from_numpy(object_mask(spec)) == 0
    distance = backdrop_distance(frames, "meadow")
    assert distance[inside].median() > 20 * distance[outside].median()
    assert backdrop_distance(frames, "desert")[outside].median() > 20 * distance[outside].median()


def test_colours_are_compared_as_a_pair_and_looks_exactly() -> None:
    one = Look(shape="star", pattern="dotted", color=COLORS[0], color2=COLORS[1])
    other = replace(one, color=COLORS[1], color2=COLORS[0])
    shared = {"any_order": True, "shape": True, "pattern": True, "colours": True}
    assert look_agreement(one, other) == {"exact": False} | shared
    assert all(look_agreement(one, one).values())
