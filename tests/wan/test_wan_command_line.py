"""`mocgen generate`, `extend` and `inspect-routing` with checkpoints of the Wan family."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mocgen.video import probe, read_frames

SMALL = ("--size", "64x32", "--steps", "2", "--seed", "7", "--format", "json")


@pytest.fixture
def run(run_mocgen, wan_folders: dict[str, Path]):
    """Runs a command with one of the tiny checkpoints; returns its JSON object and what it noted."""

    def run(command: str, model: str, *arguments: str) -> tuple[dict, str]:
        outcome = run_mocgen(command, "--model", str(wan_folders[model]), *arguments, *SMALL)
        assert outcome.code == 0, outcome.err
        return outcome.json, outcome.err

    return run


def frames_of(path: str) -> np.ndarray:
    return np.stack(list(read_frames(Path(path))))


@pytest.mark.parametrize(("model", "causal"), [("ti2v", True), ("skyreels", True), ("t2v", False)])
def test_two_shots(run, run_mocgen, model: str, causal: bool) -> None:
    rate = 16 if model == "t2v" else 24
    made, notes = run(
        "generate", model, "a red star", "a blue star", "--seconds", str(8 / rate), "-o", "a.mp4"
    )
    assert (made["frames"], made["fps"], made["shots"]) == (9 + 8, rate, 2)
    assert (made["width"], made["height"], made["top_k"]) == (64, 32, 3)
    assert 0 < made["density"] < 1
    assert made["revision"]
    assert "experimental" in notes
    frames = frames_of("a.mp4")
    assert len(frames) == 17
    assert frames.std() > 10
    recorded = run_mocgen("info", "a.mp4", "--format", "json").json["mocgen"]
    assert recorded["settings"]["causal"] is causal
    assert recorded["revision"] == made["revision"]
    again, _ = run_mocgen("generate", "--repeat", "a.mp4", "-o", "b.mp4", "--format", "json"), None
    assert again.code == 0, again.err
    assert np.array_equal(frames_of("b.mp4"), frames)
