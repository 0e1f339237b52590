"""VideoWriter without a source: each kind of output holds the frames, the settings and its payload."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mocgen.errors import OutputError
from mocgen.video import VideoWriter, probe, read_attachment, read_frames, read_metadata, resample_frames

SETTINGS = {"prompt": 'a "red" cube; naïve 立方体\n', "seed": "7", "title": "A red cube"}


def pictures(count: int, width: int, height: int) -> np.ndarray:
    """Smooth moving colours, (T, H, W, 3)."""
    t, y, x = np.mgrid[0:count, 0:height, 0:width]
    waves = [np.sin((x + 2 * t) / 11), np.cos((y + t) / 9), np.sin((x + y - t) / 13)]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def write(path: Path, frames: np.ndarray, fps: Fraction = Fraction(8), payload: bytes | None = None) -> bool:
    """Write frames in two pieces; returns what `attach` said."""
    height, width = frames.shape[1:3]
    with VideoWriter(path, width=width, height=height, fps=fps, metadata=SETTINGS) as writer:
        writer.write(frames[:3])
        writer.write(frames[3:])
        assert writer.frames_written == len(frames)
        return payload is not None and writer.attach(payload)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("size", [(96, 64), (97, 63)])
def test_movies(outputs: Path, psnr, suffix: str, size: tuple[int, int]) -> None:
    path, frames = outputs / f"v{suffix}", pictures(16, *size)
    write(path, frames)
    info = probe(path)
    assert (info.width, info.height, info.frames, info.fps) == (*size, 16, 8)
    assert info.seconds == pytest.approx(2)
    assert min(map(psnr, frames, read_frames(path))) > 36
    assert read_metadata(path) == SETTINGS
    assert [entry.name for entry in outputs.iterdir()] == [path.name]


@pytest.mark.parametrize("fps", [Fraction(8), Fraction(30000, 1001), Fraction(25, 2), Fraction(60)])
def test_rates_are_exact(outputs: Path, fps: Fraction) -> None:
    write(outputs / "v.mp4", pictures(10, 32, 32), fps=fps)
    assert probe(outputs / "v.mp4").fps == fps


def test_mp4_is_for_ordinary_players(outputs: Path) -> None:
    path = outputs / "v.mp4"
    write(path, pictures(16, 96, 64))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("h264", "yuv420p")
        tags = (stream.colorspace, stream.color_primaries, stream.color_trc, stream.color_range)
        assert tags == (1, 1, 1, 1)  # BT.709, limited
        assert container.metadata["title"] == "A red cube"
        assert json.loads(container.metadata["comment"])["mocgen"]["seed"] == "7"


@pytest.mark.parametrize("colour", [(255, 0, 0), (20, 200, 90), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif", "v"])
def test_flat_colours_come_back(outputs: Path, name: str, colour: tuple[int, int, int]) -> None:
    path = outputs / name
    write(path, np.full((4, 48, 64, 3), colour, np.uint8))
    first = path if path.is_file() else path / "frame_00001.png"
    assert np.abs(next(read_frames(first)).astype(int) - colour).max() <= 3


def test_gif(outputs: Path, psnr) -> None:
    path, frames = outputs / "v.gif", pictures(16, 96, 64)
    assert not write(path, frames, payload=b"latents")
    info = probe(path)
    assert (info.width, info.height, info.frames) == (96, 64, 16)
    assert info.seconds == pytest.approx(2, abs=0.1)
    assert min(map(psnr, frames, read_frames(path))) > 25
    assert read_metadata(path) == SETTINGS
    assert read_attachment(path) is None
    assert [entry.name for entry in outputs.iterdir()] == ["v.gif"]


def test_folder(outputs: Path) -> None:
    path, frames = outputs / "v", pictures(16, 97, 63)
    assert write(path, frames, payload=b"latents")
    names = sorted(entry.name for entry in path.iterdir())
    assert names == [*(f"frame_{i:05d}.png" for i in range(1, 17)), "latents.safetensors", "metadata.json"]
    for index, frame in enumerate(frames, start=1):
        np.testing.assert_array_equal(next(read_frames(path / f"frame_{index:05d}.png")), frame)
    assert read_metadata(path) == SETTINGS
    assert read_attachment(path) == b"latents"
    assert [entry.name for entry in outputs.iterdir()] == ["v"]


def test_attachment_of_an_mp4(outputs: Path) -> None:
    payload = np.random.default_rng(0).bytes(300_000)
    assert write(outputs / "with.mp4", pictures(16, 96, 64), payload=payload)
    write(outputs / "without.mp4", pictures(16, 96, 64))
    assert read_attachment(outputs / "with.mp4") == payload
    assert read_attachment(outputs / "without.mp4") is None
    with_payload, without = (list(read_frames(outputs / name)) for name in ("with.mp4", "without.mp4"))
    np.testing.assert_array_equal(with_payload, without)
    assert read_metadata(outputs / "with.mp4") == SETTINGS


def test_settings_may_be_long(outputs: Path) -> None:
    settings = {"storyboard": "a long story. " * 20_000}
    for name in ("v.mp4", "v.webm", "v.gif", "v"):
        with VideoWriter(outputs / name, width=32, height=32, fps=Fraction(8), metadata=settings) as writer:
            writer.write(pictures(2, 32, 32))
        assert read_metadata(outputs / name) == settings


def test_a_video_of_others_has_no_settings(clips) -> None:
    path = clips.make("other.mp4")
    assert read_metadata(path) == {}
    assert read_attachment(path) is None


@pytest.mark.parametrize(("suffix", "runs"), [(".mp4", 20), (".webm", 10), (".gif", 3)])
def test_same_frames_give_the_same_file(outputs: Path, suffix: str, runs: int) -> None:
    for run in range(runs):  # small pictures, on which encoders have been seen to differ now and then
        write(outputs / f"{run}{suffix}", pictures(16, 96, 64))
    assert len({path.read_bytes() for path in outputs.iterdir()}) == 1


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 32, 31, 3), np.uint8), np.zeros((2, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8)]
)
def test_wrong_frames_are_refused(outputs: Path, frames: np.ndarray) -> None:
    with (
        pytest.raises(ValueError, match="frames must be"),
        VideoWriter(outputs / "v.mp4", width=32, height=32, fps=Fraction(8), metadata={}) as writer,
    ):
        writer.write(frames)
    assert not list(outputs.iterdir())


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif", "v"])
def test_no_frames_no_file(outputs: Path, name: str) -> None:
    with (
        pytest.raises(OutputError, match="no frames"),
        VideoWriter(outputs / name, width=32, height=32, fps=Fraction(8), metadata={}),
    ):
        pass
    assert not list(outputs.iterdir())


MEMORY_SCRIPT = """
import resource, sys
from fractions import Fraction
import numpy as np
from mocgen.video import VideoWriter
picture = np.random.default_rng(0).integers(0, 4, (1, 192, 192, 3), dtype=np.uint8) * 80
with VideoWriter(sys.argv[1], width=192, height=192, fps=Fraction(8), metadata={}) as writer:
    for index in range(int(sys.argv[2])):
        writer.write(np.roll(picture, index, axis=2), cut=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_memory_is_flat_in_length(outputs: Path, name: str) -> None:
    def peak(frames: int) -> int:
        arguments = [sys.executable, "-c", MEMORY_SCRIPT, str(outputs / f"{frames}{name}"), str(frames)]
        return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)

    assert peak(240) < 1.08 * peak(80)


def test_resampling_keeps_flat_colours_and_smooth_pictures() -> None:
    flat = np.full((2, 12, 12, 3), (13, 200, 77), np.uint8)
    assert (resample_frames(flat, size=(50, 40)) == (13, 200, 77)).all()
    assert resample_frames(flat, size=(12, 12)) is flat
    small, large = pictures(1, 96, 64)[:, ::2, ::2], pictures(1, 96, 64)
    scaled = resample_frames(np.ascontiguousarray(small), size=(96, 64))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    shifted = (
        large[inner].astype(float) + large[:, 5:-3, 5:-3]
    ) / 2  # centres of the small pixels lie between
    assert np.abs(scaled[inner] - shifted).mean() < 12
