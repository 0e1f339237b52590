"""What the world has beyond its plain form: camera moves, rarer words, a second character."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from mocgen.training.compose import compose
from mocgen.training.data import ClipPool
from mocgen.training.world import (
    MOTIONS,
    PLAIN,
    STOP_WORDS,
    WORDS,
    Look,
    Pose,
    ShotSpec,
    Variety,
    full_caption,
    object_mask,
    render_shot,
    sample_cast,
    sample_scene,
    scene_captions,
    scene_prompt,
    words_beyond,
)
from mocgen.training.world.camera import CAMERAS, fitting_cameras, see, views
from mocgen.training.world.tracks import track
from mocgen.training.world.words import words_of

RICH = Variety(synonyms=0.5, camera=0.5, friend=1.0, incomplete=0.3)
SPEC = ShotSpec(
    look=Look(shape="star", pattern="striped", color="red", color2="white"),
    place="meadow", motion="stands still",
    pose=Pose(x=0.03, lift=0.0, size=0.4, phase=0.3, backdrop=7), caption="", full_caption="",
)  # fmt: skip


def test_the_plain_world_is_the_one_that_models_were_trained_in() -> None:
    texts = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for scene in (sample_cast(rng, clips=4), sample_scene(rng, shots=4)):
            texts += [repr(scene.shots).replace(", camera=''", ""), scene.prompt]
            texts += [
                *scene_captions(scene.shots, "caption", rng),
                *scene_captions(scene.shots, "nowhere", rng),
            ]
            texts += [full_caption(scene.shots[0], rng), scene_prompt(scene.shots[0].look, rng)]
    assert hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest() == "ed36272ea1cef3fc"


@pytest.mark.parametrize("camera", CAMERAS)
def test_cameras_show_what_their_name_says(camera: str) -> None:
    moved, still = replace(SPEC, camera=camera), render_shot(SPEC, frames=5, size=48)
    mask, video = object_mask(moved, frames=5, size=48), render_shot(moved, frames=5, size=48)
    assert (video.shape, mask.shape) == ((5, 48, 48, 3), (5, 48, 48))
    area = mask.sum((1, 2))
    across = (mask.sum(1) * np.arange(48)).sum(1) / area
    if camera.startswith("zooms"):
        assert (np.diff(area) > 0).all() == (camera == "zooms in")
        whole = video[0 if camera == "zooms in" else -1].astype(int)
        assert np.abs(whole - still[0]).mean() < 3  # the frame without a camera, a little smoother
    else:  # what stands still goes the other way
        assert (np.diff(across) > 0).all() == (camera == "pans left")


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_camera_keeps_the_object_in_the_picture(motion: str) -> None:
    for camera in fitting_cameras(motion):
        spec = replace(SPEC, motion=motion, camera=camera)
        mask = object_mask(spec, frames=8, size=48)
        edges = mask[:, [0, -1]].sum((1, 2))  # above and below
        assert edges.max() < 2, camera
        seen = views(camera, track(spec, 8))
        for edge in (seen.left, seen.top):
            assert edge.min() >= 0
            assert (edge + seen.side).max() <= 1 + 1e-6


def test_a_view_is_the_mean_over_pixels() -> None:
    scene = np.random.default_rng(0).random((1, 8, 8, 3), dtype=np.float32)
    seen = replace(
        views("zooms in", track(replace(SPEC, motion="grows"), 1)), left=np.zeros(1), top=np.zeros(1)
    )
    picture = see(scene, replace(seen, side=np.ones(1)), 4)
    np.testing.assert_allclose(picture[0], scene[0].reshape(4, 2, 4, 2, 3).mean((1, 3)), rtol=1e-5)


def pool() -> ClipPool:
    shots = tuple(sample_cast(np.random.default_rng(i), clips=4, variety=RICH).shots for i in range(30))
    return ClipPool(latents=torch.zeros(30, 4, 1), objects=torch.zeros(30, 4, 1), shots=shots)


def test_rich_captions_use_the_words_that_they_announce() -> None:
    known, cast = WORDS | words_beyond(RICH), pool()
    rng, heard = np.random.default_rng(0), set[str]()
    for _ in range(200):
        for naming in ("caption", "prompt", "nowhere"):
            scene = compose(cast, shots=4, distractors=0.5, naming=naming, rng=rng, variety=RICH)
            for text in (scene.prompt, *scene.captions):
                assert set(words_of(text)) <= known, text
                assert text == " ".join(text.split())
                heard |= set(words_of(text))
    assert words_beyond(PLAIN) == frozenset()
    assert len(words_beyond(RICH) - heard - STOP_WORDS) < 0.1 * len(words_beyond(RICH))


def test_two_characters_come_back_and_are_told_apart() -> None:
    cast, returns = pool(), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = compose(
            cast, shots=5, distractors=0.0, naming="caption", rng=rng, variety=replace(RICH, synonyms=0)
        )
        hero, friend = scene.clips[0][0], scene.clips[1][0]
        assert {number for number, _ in scene.clips} == {hero, friend}
        returns += sum(number == friend for number, _ in scene.clips[2:])
        assert "the friend the" in scene.captions[1]
        for (number, _), caption in zip(scene.clips, scene.captions, strict=True):
            if "friend" in caption:
                assert number == friend
            if "hero" in caption:
                assert number == hero
    assert 40 < returns < 80  # of 120


def test_cameras_are_as_frequent_as_asked_for() -> None:
    shots = [shot for cast in pool().shots for shot in cast]
    moving = [shot for shot in shots if shot.camera]
    assert 40 < len(moving) < 80  # of 120
    assert all(shot.camera in fitting_cameras(shot.motion) for shot in moving)


def test_a_share_is_from_0_to_1() -> None:
    with pytest.raises(ValueError, match=r"data\.world\.camera must be from 0 to 1, not 1\.5"):
        Variety(camera=1.5)
