"""Whole runs against the pipelines of diffusers: same text, noise, schedule and weights, same video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
)
from torch import Tensor

from mocgen.bundle import load_bundle
from mocgen.film import Film, FilmedShot
from mocgen.history import History, PastShot
from mocgen.plan import make_plan
from mocgen.settings import Settings
from mocgen.storyboard import scene_from_prompts

CPU = torch.device("cpu")
PROMPT, NEGATIVE = "a red star turns in the snow", "no blur"


def film(
    folder: Path, captions: Sequence[str], *, past: Tensor | None = None, **settings
) -> list[FilmedShot]:
    """Our shots; `past` (1, T, C, h, w): latents of a clip that they continue."""
    asked = Settings(steps=3, seed=11, negative=NEGATIVE, **settings)
    scene = scene_from_prompts(captions)
    model = load_bundle(str(folder), device=CPU, dtype=torch.float32)
    plan = make_plan(model, scene.shots, asked, clip_size=asked.size if past is not None else None)
    shots = (PastShot(index=0, caption="", latents=past),) if past is not None else ()
    run = Film(
        model, plan, scene, seed=asked.seed, negative=asked.negative, history=History(shots=shots),
        on_event=lambda event: None,
    )  # fmt: skip
    return list(run.shots())


def assert_same(shot: FilmedShot, latents: Tensor, frames: np.ndarray) -> None:
    """latents: (1, C, T, h, w); frames: (T', H, W, 3) in [0, 1]."""
    assert (shot.past.latents - latents.transpose(1, 2)).abs().max() <= 1e-4
    assert shot.pixels.shape == frames.shape
    assert np.abs(shot.pixels.numpy() - frames * 255).max() <= 1.0


@pytest.mark.parametrize("scheduler", ["as it is", "flow-euler"])
def test_wan21_as_in_diffusers(t2v, wan_folders: dict[str, Path], tmp_path: Path, scheduler: str) -> None:
    theirs, folder = t2v, wan_folders["t2v"]
    if scheduler == "flow-euler":
        theirs = WanPipeline(**t2v.components | {"scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0)})
        theirs.set_progress_bar_config(disable=True)
        folder = tmp_path / "euler"
        theirs.save_pretrained(folder)
    asked = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": 3, "guidance_scale": 4.0}
    latents, frames = (
        theirs(
            PROMPT, NEGATIVE, **asked, generator=torch.Generator().manual_seed(11), output_type=kind
        ).frames
        for kind in ("latent", "np")
    )
    (shot,) = film(folder, [PROMPT], size=(48, 32), seconds=9 / 16, guidance=4.0, attention="dense")
    assert_same(shot, latents, frames[0])
