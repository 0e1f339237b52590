"""extend on videos that mocgen made: their stored latents are the memory, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from mocgen import history
from mocgen.history import PastShot
from mocgen.video import VideoWriter, probe, read_attachment, read_frames

STAR, CUBE, RING = "a red star spins in the desert", "a blue cube bounces under the sea", "the hero grows"


@pytest.mark.parametrize("attention", ["moc", "random"])
def test_extending_equals_generating_in_one_go(film, latents_of, frames_of, psnr, attention: str) -> None:
    options = ("--attention", attention)
    film("generate", STAR, CUBE, RING, "-o", "whole.mp4", "--no-upscale", *options)
    film("generate", STAR, CUBE, "-o", "head.mp4", "--no-upscale", *options)
    made = film("extend", "head.mp4", RING, "-o", "longer.mp4", *options)
    assert (made["frames"], made["seconds"], made["shots"]) == (24, 3.0, 1)
    whole, longer = latents_of("whole.mp4"), latents_of("longer.mp4")
    assert len(whole) == len(longer) == 3
    assert all(a.equal(b) for a, b in zip(whole, longer, strict=True))
    pairs = list(zip(frames_of("head.mp4"), frames_of("longer.mp4"), strict=False))
    assert min(psnr(ours, theirs) for theirs, ours in pairs) >= 40
    tail = zip(frames_of("whole.mp4")[16:], frames_of("longer.mp4")[16:], strict=True)
    assert min(psnr(ours, theirs) for theirs, ours in tail) > 30


def test_the_global_prompt_goes_on(film, latents_of) -> None:
    for name, shots in (("whole", f'"{STAR}", "{CUBE}"'), ("head", f'"{STAR}"')):
        Path(f"{name}.toml").write_text(f'prompt = "a story about a red star"\nshots = [{shots}]\n')
        film("generate", "--storyboard", f"{name}.toml", "-o", f"{name}.mp4", "--no-upscale")
    film("extend", "head.mp4", CUBE, "-o", "longer.mp4")
    whole, longer = latents_of("whole.mp4"), latents_of("longer.mp4")
    assert all(a.equal(b) for a, b in zip(whole, longer, strict=True))


def test_an_extended_video_can_be_extended_again(film, latents_of) -> None:
    film("generate", STAR, CUBE, RING, "-o", "whole.mp4", "--no-upscale")
    film("generate", STAR, "-o", "one.mp4", "--no-upscale")
    film("extend", "one.mp4", CUBE, "-o", "two.mp4")
    made = film("extend", "two.mp4", RING, "-o", "three.mp4")
    assert made["frames"] == probe(Path("three.mp4")).frames == 24
    assert all(a.equal(b) for a, b in zip(latents_of("whole.mp4"), latents_of("three.mp4"), strict=True))


def test_an_upscaled_video_keeps_its_size(film, latents_of) -> None:
    film("generate", STAR, CUBE, "-o", "whole.mp4", "--size", "192x192", "--steps", "1")
    film("generate", STAR, "-o", "head.mp4", "--size", "192x192", "--steps", "1", "--fps", "12")
    made = film("extend", "head.mp4", CUBE, "-o", "longer.mp4", "--steps", "1")
    assert (made["width"], made["height"], made["fps"], made["frames"]) == (192, 192, 12.0, 24)
    assert latents_of("whole.mp4")[1].equal(latents_of("longer.mp4")[1])


def repaint(old: Path, new: Path, payload: bytes) -> None:
    """A black video of the same size that carries `payload`."""
    info = probe(old)
    black = np.zeros((info.frames, info.height, info.width, 3), np.uint8)
    with VideoWriter(new, width=info.width, height=info.height, fps=info.fps, metadata={}) as writer:
        writer.write(black)
        writer.attach(payload)


def test_saved_latents_are_used_and_not_the_pixels(film, latents_of) -> None:
    film("generate", STAR, CUBE, "-o", "head.mp4", "--no-upscale")
    payload = read_attachment(Path("head.mp4"))
    assert payload is not None
    repaint(Path("head.mp4"), Path("black.mp4"), payload)
    film("extend", "head.mp4", RING, "-o", "longer.mp4")
    film("extend", "black.mp4", RING, "-o", "blacker.mp4")
    assert all(a.equal(b) for a, b in zip(latents_of("longer.mp4"), latents_of("blacker.mp4"), strict=True))
    assert max(frame.max() for frame in list(read_frames(Path("blacker.mp4")))[:16]) < 10


def test_another_model_reads_the_pixels(film, latents_of, other_model: str) -> None:
    film("generate", STAR, CUBE, "-o", "head.mp4", "--no-upscale")
    payload = read_attachment(Path("head.mp4"))
    assert payload is not None
    repaint(Path("head.mp4"), Path("black.mp4"), payload)
    for name in ("head", "black"):
        film("extend", f"{name}.mp4", RING, "-o", f"{name}-longer.mp4", model=other_model)
    head, black = latents_of("head-longer.mp4"), latents_of("black-longer.mp4")
    assert [len(head), len(black)] == [3, 3]
    assert not any(a.equal(b) for a, b in zip(head, black, strict=True))
    assert not head[0].equal(latents_of("head.mp4")[0])


def test_a_webm_has_no_latents_and_is_read_as_pixels(film, latents_of) -> None:
    film("generate", STAR, "-o", "head.webm", "--no-upscale")
    made = film("extend", "head.webm", CUBE, "-o", "longer.mp4")
    assert made["frames"] == 16
    assert len(latents_of("longer.mp4")) == 2


def test_context_seconds_bound_what_is_remembered(film, latents_of) -> None:
    film("generate", STAR, CUBE, RING, "-o", "head.mp4", "--no-upscale", "--steps", "1")
    film("extend", "head.mp4", STAR, "-o", "all.mp4", "--steps", "1")
    film("extend", "head.mp4", STAR, "-o", "last.mp4", "--steps", "1", "--context-seconds", "1")
    assert [len(latents_of(name)) for name in ("all.mp4", "last.mp4")] == [4, 2]
    assert latents_of("last.mp4")[0].equal(latents_of("head.mp4")[2])
    assert not latents_of("last.mp4")[1].equal(latents_of("all.mp4")[3])


@pytest.mark.parametrize(("length", "limit", "kept"), [("2", "2", 1), ("2", "2.5", 2), ("0.5", "1", 2)])
def test_context_seconds_are_seconds_of_the_clip(
    film, latents_of, length: str, limit: str, kept: int
) -> None:
    """However long its shots are; a shot that is seen in part counts."""
    own = ("--no-upscale", "--steps", "1", "--seconds", length)
    film("generate", STAR, CUBE, RING, "-o", "head.mp4", *own)
    film("extend", "head.mp4", STAR, "-o", "last.mp4", *own, "--context-seconds", limit)
    assert len(latents_of("last.mp4")) == kept + 1


def test_pieces_of_a_long_shot_have_their_own_times() -> None:
    """Ten seconds in ten pieces, then a shot of one second."""
    shots = [PastShot(index=i, caption="", latents=torch.zeros(1), begin=10.0 * (i == 10)) for i in range(11)]
    kept = history._last(history.History(shots=tuple(shots), seconds=11.0), 5.0).shots
    assert [shot.index for shot in kept] == [6, 7, 8, 9, 10]


def test_info_and_repeat_speak_of_the_clip(film, run_mocgen) -> None:
    film("generate", STAR, "-o", "head.mp4", "--no-upscale", "--steps", "1")
    film("extend", "head.mp4", CUBE, "-o", "longer.mp4", "--steps", "1", "--context-seconds", "2")
    record = run_mocgen("info", "longer.mp4", "--format", "json").json["mocgen"]
    assert (record["command"], record["clip"], record["context_seconds"]) == ("extend", "head.mp4", 2.0)
    assert [shot["caption"] for shot in record["shots"]] == [CUBE]
    outcome = run_mocgen("generate", "--repeat", "longer.mp4")
    assert outcome.code == 2
    assert "extends another clip" in outcome.err


def words(payload: bytes) -> dict[str, Any]:
    """The words in a payload's header."""
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"]["mocgen"])
    return found


def header(payload: bytes, **changed: object) -> dict[str, str]:
    """What stands in a payload's header, with other words."""
    return {"mocgen": json.dumps(words(payload) | changed)}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda payload: payload[:-100],
    "noise": lambda payload: b"\xff" * 200,
    "no words": lambda payload: save(load(payload)),
    "words that are no JSON": lambda payload: save(load(payload), {"mocgen": "["}),
    "fewer captions": lambda payload: save(load(payload), header(payload, captions=[])),
    "captions of another kind": lambda payload: save(load(payload), header(payload, captions=[1])),
    "indices of another kind": lambda payload: save(load(payload), header(payload, indices=7)),
    "indices as words": lambda payload: save(load(payload), header(payload, indices=["a"])),
    "times of another kind": lambda payload: save(load(payload), header(payload, begins=["a"])),
    "missing latents": lambda payload: save({"other": torch.zeros(1)}, header(payload)),
    "latents of another shape": lambda payload: save({"latents.0": torch.zeros(1, 8, 3)}, header(payload)),
    "latents of another size": lambda payload: save(
        {"latents.0": torch.zeros(1, 8, 8, 10, 10)}, header(payload)
    ),
    "latents of half a group": lambda payload: save(
        {"latents.0": torch.zeros(1, 6, 8, 12, 12)}, header(payload)
    ),
    "latents that are no numbers": lambda payload: save(
        {"latents.0": torch.full((1, 8, 8, 12, 12), torch.nan)}, header(payload)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_latents_are_one_clear_error(film, run_mocgen, tiny_model: str, damage: str) -> None:
    film("generate", STAR, "-o", "head.mp4", "--no-upscale", "--steps", "1")
    payload = read_attachment(Path("head.mp4"))
    assert payload is not None
    repaint(Path("head.mp4"), Path("bad.mp4"), DAMAGES[damage](payload))
    outcome = run_mocgen("extend", "bad.mp4", CUBE, "-o", "longer.mp4", "--model", tiny_model)
    assert outcome.code == 1
    assert "bad.mp4" in outcome.err
    assert "latents" in outcome.err
    assert "damaged" in outcome.err
    assert not Path("longer.mp4").exists()
