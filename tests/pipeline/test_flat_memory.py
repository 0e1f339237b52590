"""However many shots a video has, only the frames of one of them are held at a time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mocgen.film import FilmedShot
from mocgen.pipeline import generate
from mocgen.settings import Event, Settings, Writing
from mocgen.storyboard import scene_from_prompts

WORDS = ("a red star", "a blue cube", "a green ring")


@pytest.mark.parametrize("causal", [True, False])
def test_pixels_of_finished_shots_are_freed(tiny_model: str, tmp_path: Path, causal: bool) -> None:
    alive: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Writing):
            things = gc.get_objects()
            shots = sum(type(thing) is FilmedShot for thing in things)
            tensors = [thing for thing in things if type(thing) is torch.Tensor]
            pictures = sum(tensor.dtype == torch.uint8 and tensor.ndim == 4 for tensor in tensors)
            alive.append(max(shots, pictures))

    scene = scene_from_prompts([WORDS[n % 3] for n in range(6)])
    settings = Settings(model=tiny_model, upscale=False, steps=1, causal=causal)
    generate(scene, tmp_path / "v.mp4", settings, on_event=count)
    assert len(alive) == 6
    assert max(alive) <= 2  # the shot that is written, and the one before until it is replaced


PEAKS = """
import resource, sys
from pathlib import Path
from mocgen.pipeline import generate
from mocgen.settings import Settings
from mocgen.storyboard import scene_from_prompts
for shots in (4, 16):
    scene = scene_from_prompts(["a red star", "a blue cube"] * (shots // 2))
    settings = Settings(model=sys.argv[1], steps=1, size=(512, 512), guidance=1)
    generate(scene, Path(sys.argv[2]) / f"{shots}.mp4", settings)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_peak_memory_does_not_grow_with_the_number_of_shots(tiny_model: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PEAKS, tiny_model, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, result.stdout.split())
    assert many < 1.1 * few  # twelve shots more are 75 MB of pixels
