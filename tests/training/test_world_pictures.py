"""Pictures of the synthetic world: motions, looks, masks, and the parallel pool."""

from dataclasses import replace

import numpy as np
import pytest

from mocgen.training.world import (
    MOTIONS,
    PATTERNS,
    PLACES,
    SHAPES,
    Look,
    Pose,
    ShotSpec,
    object_mask,
    render_pool,
    render_shot,
)

POSE = Pose(x=0.0, lift=0.0, size=0.42, phase=0.0, backdrop=5)


def shot(
    *, shape: str = "cube", pattern: str = "striped", place: str = "meadow", motion: str = "stands still"
) -> ShotSpec:
    look = Look(shape=shape, pattern=pattern, color="red", color2=None if pattern == "plain" else "white")
    return ShotSpec(look=look, place=place, motion=motion, pose=POSE, caption="", full_caption="")


def centroids(mask: np.ndarray) -> np.ndarray:
    """(T, 2): x and y of the mask's centre, pixels."""
    weight = mask / mask.sum(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[: mask.shape[1], : mask.shape[2]]
    return np.stack([(weight * x).sum(axis=(1, 2)), (weight * y).sum(axis=(1, 2))], axis=1)


@pytest.mark.parametrize("frames", [4, 8, 16])
@pytest.mark.parametrize("size", [48, 96])
def test_frames_have_the_asked_shape_and_use_the_whole_range(frames, size):
    video = render_shot(shot(), frames=frames, size=size)
    assert video.shape == (frames, size, size, 3)
    assert video.dtype == np.uint8
    assert video.max() > 230
    assert video.min() < 70
    mask = object_mask(shot(), frames=frames, size=size)
    assert mask.shape == (frames, size, size)
    assert mask.dtype == np.float32
    assert mask.min() == 0
    assert mask.max() == 1


@pytest.mark.parametrize("frames", [4, 8, 16])
@pytest.mark.parametrize(("motion", "sign"), [("moves left", -1), ("moves right", 1)])
def test_sideways_motions_go_their_way_evenly(motion, sign, frames):
    x, y = centroids(object_mask(shot(motion=motion), frames=frames, size=96)).T
    steps = np.diff(x) * sign
    assert (steps > 0).all()
    assert 38 < steps.sum() < 46
    assert np.ptp(y) < 1


@pytest.mark.parametrize("place", PLACES)
def test_bouncing_goes_up_and_down_on_the_spot_inside_the_frame(place):
    mask = object_mask(shot(motion="bounces", place=place), frames=8, size=96)
    x, y = centroids(mask).T
    assert np.ptp(x) < 1
    assert np.ptp(y) > 14
    turns = np.diff(np.sign(np.diff(y)))
    assert (turns != 0).sum() >= 3
    assert mask[:, 0].max() == 0


def test_flying_in_a_circle_goes_once_around():
    points = centroids(object_mask(shot(motion="flies in a circle"), frames=8, size=96))
    angles = np.unwrap(np.arctan2(*(points - points.mean(axis=0)).T[::-1]))
    assert (np.diff(angles) > 0.5).all()
    assert np.ptp(angles) == pytest.approx(2 * np.pi * 7 / 8, abs=0.3)


def test_growing_fills_several_times_the_area_at_the_end():
    areas = object_mask(shot(motion="grows"), frames=8, size=96).sum(axis=(1, 2))
    assert (np.diff(areas) > 0).all()
    assert areas[-1] > 6 * areas[0]


@pytest.mark.parametrize("shape", ["cube", "triangle", "diamond", "star"])
def test_spinning_turns_the_object_in_its_place(shape):
    mask = object_mask(shot(shape=shape, motion="spins"), frames=8, size=96)
    x, y = centroids(mask).T
    assert np.ptp(x) < 2
    assert np.ptp(y) < 2
    assert (np.abs(np.diff(mask, axis=0)).sum(axis=(1, 2)) > 40).all()


def test_standing_still_repeats_one_frame():
    video = render_shot(shot(motion="stands still"), frames=8, size=96)
    assert (video == video[0]).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_look_is_the_same_in_every_place(shape, pattern):
    pictures = []
    for place in ("beach", "desert"):
        spec = shot(shape=shape, pattern=pattern, place=place)
        inside = object_mask(spec, frames=1, size=96)[0] == 1
        pictures.append(render_shot(spec, frames=1, size=96)[0][inside])
    np.testing.assert_array_equal(*pictures)


def test_shapes_and_patterns_differ_visibly():
    masks = [object_mask(shot(shape=shape), frames=1, size=96) for shape in SHAPES]
    videos = [render_shot(shot(pattern=pattern), frames=1, size=96).astype(float) for pattern in PATTERNS]
    for i in range(len(masks)):
        for j in range(i):
            assert np.abs(masks[i] - masks[j]).sum() > 100
    for i in range(len(videos)):
        for j in range(i):
            assert (np.abs(videos[i] - videos[j]).max(axis=-1) > 100).sum() > 100


def test_places_differ_and_their_variants_are_repeatable():
    means = [render_shot(shot(place=place), frames=1).astype(float) for place in PLACES]
    for i in range(len(means)):
        for j in range(i):
            assert np.abs(means[i] - means[j]).mean() > 10
    other = replace(shot(), pose=replace(POSE, backdrop=6))
    np.testing.assert_array_equal(render_shot(shot()), render_shot(shot()))
    assert (render_shot(other) != render_shot(shot())).any()


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_objects_stay_in_the_frame(shape, motion):
    spec = shot(shape=shape, motion=motion)
    largest = replace(spec, pose=Pose(x=0.06, lift=0.04, size=0.48, phase=0.3, backdrop=1))
    mask = object_mask(largest, frames=8, size=96)
    edges = mask[:, 0].sum() + mask[:, -1].sum() + mask[:, :, 0].sum() + mask[:, :, -1].sum()
    assert edges == 0


def test_the_pool_does_not_depend_on_the_number_of_workers():
    one, two = (
        list(render_pool(9, scenes=20, shots=2, frames=4, size=32, workers=workers)) for workers in (1, 2)
    )
    assert len(one) == 20
    assert one[0][1].shape == (2, 4, 32, 32, 3)
    for (scene, video), (scene2, video2) in zip(one, two, strict=True):
        assert scene == scene2
        np.testing.assert_array_equal(video, video2)
