"""read_frames: upright, true in colour, resampled in time and size, tail only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mocgen.video import probe, read_frames

ORANGE = (200, 120, 40)


def stack(*args, **kwargs) -> np.ndarray:
    """All frames of a clip, (T, H, W, 3)."""
    return np.stack(list(read_frames(*args, **kwargs)))


@pytest.mark.parametrize("matrix", [1, 5, 9])  # BT.709, BT.601, BT.2020
@pytest.mark.parametrize("sample_range", [1, 2])  # limited, full
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_matrix_and_range_are_respected(clips, matrix: int, sample_range: int, pixel_format: str) -> None:
    path = clips.make(
        "c.mp4", frames=3, colour=(matrix, sample_range), pixel_format=pixel_format, flat=ORANGE
    )
    frames = stack(path).astype(int)
    assert np.abs(frames - ORANGE).max() <= 4


def test_untagged_video_is_bt601_when_small_and_bt709_when_large(clips) -> None:
    for size, matrix in (((96, 64), 5), ((1280, 720), 1)):
        path = clips.make(f"{matrix}.mp4", frames=2, size=size, colour=(matrix, 1), flat=ORANGE)
        untagged = path.with_suffix(".y4m")
        with av.open(str(path)) as source, av.open(str(untagged), "w") as target:
            stream = target.add_stream("wrapped_avframe", rate=24, width=size[0], height=size[1])
            for frame in source.decode(video=0):
                frame.colorspace, frame.color_range = 2, 0
                target.mux(stream.encode(frame))
        assert np.abs(stack(untagged).astype(int) - ORANGE).max() <= 4


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_ten_bits(clips, codec: str) -> None:
    path = clips.make(
        "ten.mp4", frames=3, codec=codec, pixel_format="yuv420p10le", colour=(1, 1), flat=ORANGE
    )
    assert probe(path).pixel_format == "yuv420p10le"
    assert np.abs(stack(path).astype(int) - ORANGE).max() <= 3


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation(clips, rotation: int) -> None:
    plain = stack(clips.make("plain.mp4", frames=4))
    turned = stack(clips.make("turned.mp4", frames=4, rotation=rotation))
    np.testing.assert_array_equal(turned, np.rot90(plain, rotation // 90, axes=(1, 2)))


def test_odd_size(clips) -> None:
    assert stack(clips.make("odd.mp4", size=(97, 63), pixel_format="yuv444p", frames=3)).shape == (
        3,
        63,
        97,
        3,
    )


def test_scaling_is_anisotropic_and_follows_rotation(clips) -> None:
    path = clips.make("r.mp4", frames=2, rotation=90)
    assert stack(path, size=(40, 30)).shape == (2, 30, 40, 3)
    small = stack(clips.make("s.mp4", frames=2), size=(48, 32))[0].astype(float)
    whole = stack(clips.make("s2.mp4", frames=2))[0].astype(float)
    means = whole.reshape(32, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(small - means).mean() < 1.5


def levels(frames: np.ndarray) -> list[int]:
    """The number written into each frame by `numbered`."""
    return [round((float(frame.mean()) - 20) / 6) for frame in frames]


def numbered(clips, name: str, times_ms: list[int]) -> Path:
    """A clip whose frame i is a grey that encodes i, shown at the given times."""
    path = clips.folder / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=32, height=32, pix_fmt="yuv420p")
        stream.options = {"crf": "1", "g": "8"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 + 6 * index, np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["n.mp4", "n.mkv"])
def test_every_frame_once_without_a_rate(clips, name: str) -> None:
    assert levels(stack(numbered(clips, name, list(range(0, 1200, 40))))) == list(range(30))


def test_slower_clock_takes_the_nearest_frames(clips) -> None:
    path = numbered(clips, "n.mp4", list(range(0, 1200, 40)))  # 30 frames at 25 fps
    assert levels(stack(path, fps=5)) == [0, 5, 10, 15, 20, 25]
    assert levels(stack(path, fps=10)) == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]


def test_faster_clock_repeats(clips) -> None:
    path = numbered(clips, "n.mp4", [0, 100, 200, 300])
    assert levels(stack(path, fps=20)) == [0, 1, 1, 2, 2, 3, 3, 3]


def test_equal_clock_changes_nothing(clips) -> None:
    path = numbered(clips, "n.mp4", list(range(0, 1200, 40)))
    assert levels(stack(path, fps=25)) == list(range(30))


def test_variable_rate_is_resampled_by_time_stamps(clips) -> None:
    path = numbered(clips, "n.mp4", [0, 40, 80, 500, 540, 580, 1000])
    chosen = levels(stack(path, fps=10))
    assert chosen == [0, 2, 2, 3, 3, 3, 5, 5, 6, 6, 6]


@pytest.mark.parametrize("name", ["n.mp4", "n.mkv", "n.ts", "n.mov"])
def test_tail(clips, name: str) -> None:
    path = numbered(clips, name, list(range(0, 1200, 40)))
    assert levels(stack(path, last_seconds=0.2)) == [25, 26, 27, 28, 29]
    assert levels(stack(path, last_seconds=0.4, fps=5)) == [20, 25]
    assert levels(stack(path, last_seconds=99)) == list(range(30))


def test_tail_of_a_long_clip_is_not_decoded_from_the_start(clips, monkeypatch: pytest.MonkeyPatch) -> None:
    from mocgen.video import clip as clip_module

    path = numbered(clips, "n.mp4", list(range(0, 1200, 40)))
    decoded = []
    frames = clip_module.Clip.frames
    monkeypatch.setattr(
        clip_module.Clip, "frames", lambda self: (decoded.append(f.pts) or f for f in frames(self))
    )
    assert len(stack(path, last_seconds=0.08)) == 2
    assert len(decoded) < 15


def test_frames_are_streamed(clips) -> None:
    frames = read_frames(clips.make("a.mp4", frames=200))
    assert next(frames).shape == (64, 96, 3)
    frames.close()


def test_real_clip_matches_its_own_rate(real_clip: Path) -> None:
    info = probe(real_clip)
    frames = read_frames(real_clip, fps=8, size=(96, 96))
    assert sum(1 for _ in frames) == pytest.approx(8 * info.seconds, abs=1)
