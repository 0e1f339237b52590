"""What is remembered of a video file of rendered shots: pieces, and the captions of the scene."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mocgen.bundle import NativeModel, load_bundle
from mocgen.evaluation.histories import clip_history, rendered_history
from mocgen.evaluation.scenes import return_scene, rollout_shots
from mocgen.training.world import ShotSpec


@pytest.fixture(scope="module")
def model(tiny_model: str) -> NativeModel:
    loaded = load_bundle(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(loaded, NativeModel)
    return loaded


def found(shots: tuple[ShotSpec, ...], model: NativeModel) -> list[tuple[float, str]]:
    history = clip_history(shots, model, captions=True)
    return [(shot.begin, shot.caption) for shot in history.shots]


def test_a_clip_is_remembered_like_rendered_shots_with_the_captions_of_the_scene(model: NativeModel) -> None:
    shots = rollout_shots(3, 0, 4)
    assert found(shots, model) == [(number, shot.caption) for number, shot in enumerate(shots)]
    rendered = rendered_history(shots, model)
    ours = clip_history(shots, model, captions=True)
    for one, other in zip(ours.shots, rendered.shots, strict=True):
        assert (one.index, one.begin, one.caption) == (other.index, other.begin, other.caption)
        assert (one.latents - other.latents).abs().mean() < 0.3 * other.latents.abs().mean()
    assert {shot.caption for shot in clip_history(shots, model).shots} == {""}


def test_a_shot_whose_cut_is_not_seen_has_the_captions_of_both(model: NativeModel) -> None:
    """The same shot once more, with another caption: nothing changes at the cut."""
    scene = return_scene(3, 0, 1)
    still = replace(scene.seen, motion="stands still")
    again = replace(still, caption="a red ball on the beach")
    elsewhere = scene.back
    both = f"{still.caption}; {again.caption}"
    assert found((still, again, elsewhere), model) == [(0, both), (0, both), (2, elsewhere.caption)]
