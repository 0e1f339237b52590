"""Whole runs against the pipelines of diffusers: same text, noise, schedule and weights, same video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from torch import Tensor

from mocgen.bundle import load_bundle
from mocgen.film import Film, FilmedShot
from mocgen.history import History, PastShot
from mocgen.plan import make_plan
from mocgen.settings import Settings
from mocgen.storyboard import scene_from_prompts
from mocgen.wan.denoiser import WanDenoiser

CPU = torch.device("cpu")
PROMPT, NEGATIVE = "a red star turns in the snow", "no blur"


def film(
    folder: Path,
    captions: Sequence[str],
    *,
    past: Tensor | None = None,
    noise: Tensor | None = None,
    **settings,
) -> list[FilmedShot]:
    """Our shots; `past` (1, T, C, h, w): latents of a clip that they continue; `noise`: in place of ours."""
    asked = Settings(steps=3, seed=11, negative=NEGATIVE, **settings)
    scene = scene_from_prompts(captions)
    model = load_bundle(str(folder), device=CPU, dtype=torch.float32)
    clip = {} if past is None else {"clip_size": asked.size, "clip_fps": Fraction(24)}
    plan = make_plan(model, scene.shots, asked, **clip)
    shots = (PastShot(index=0, caption="", latents=past, begin=0.0),) if past is not None else ()
    run = Film(
        model, plan, scene, seed=asked.seed, negative=asked.negative, history=History(shots=shots),
        on_event=lambda event: None,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        if noise is not None:
            patch.setattr(WanDenoiser, "noise", lambda self, plan: noise.transpose(1, 2))
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


ASKED = {"height": 32, "width": 64, "num_inference_steps": 3, "guidance_scale": 4.0}
OURS = {"size": (64, 32), "guidance": 4.0, "attention": "dense"}


def draw(frames: int, *, seed: int, channels: int = 48) -> Tensor:
    """Noise (1, C, frames, 2, 4)."""
    return torch.randn((1, channels, frames, 2, 4), generator=torch.Generator().manual_seed(seed))


def seed_of(folder: Path, index: int) -> int:
    """The seed of our noise for a shot of a scene with seed 11."""
    return load_bundle(str(folder), device=CPU, dtype=torch.float32).noise_seed(11, index)


def test_wan22_after_an_image_as_in_diffusers(ti2v, wan_folders: dict[str, Path]) -> None:
    """The clean first latent frame stands at time step 0, and the video goes on from it without a seam."""
    folder = wan_folders["ti2v"]
    theirs = WanImageToVideoPipeline(
        **ti2v.components, image_encoder=None, image_processor=None, expand_timesteps=True
    )
    theirs.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(3))
    first = theirs.prepare_latents(image * 2 - 1, 1, 48, 32, 64, 9)[1]
    noise = torch.cat((draw(1, seed=0), draw(2, seed=seed_of(folder, 1))), dim=2)
    latents, frames = (
        theirs(image, PROMPT, NEGATIVE, num_frames=9, latents=noise, output_type=kind, **ASKED).frames
        for kind in ("latent", "np")
    )
    (shot,) = film(folder, [PROMPT], past=first.transpose(1, 2), seconds=8 / 24, causal=False, **OURS)
    assert_same(shot, latents[:, :, 1:], frames[0, 1:])


@torch.inference_mode()
def test_wan22_after_a_clip_as_with_the_parts_of_diffusers(ti2v, wan_folders: dict[str, Path]) -> None:
    """Two clean latent frames before two noisy ones, whose tokens have their own time step."""
    folder = wan_folders["ti2v"]
    clip, noisy = draw(2, seed=8), draw(2, seed=seed_of(folder, 1))
    texts = ti2v.encode_prompt(PROMPT, NEGATIVE, max_sequence_length=512)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(ti2v.scheduler.config)
    scheduler.set_timesteps(3)
    for t in scheduler.timesteps:
        tokens = torch.tensor([[0.0, 0.0, t, t]]).repeat_interleave(2, dim=1)
        x = torch.cat((clip, noisy), dim=2)
        told, free = (ti2v.transformer(x, tokens, text, return_dict=False)[0] for text in texts)
        velocity = (free + 4.0 * (told - free))[:, :, 2:]
        noisy = scheduler.step(velocity, t, noisy, return_dict=False)[0]
    whole = torch.cat((clip, noisy), dim=2) * 0.7 + 0.1
    frames = ti2v.video_processor.postprocess_video(ti2v.vae.decode(whole, return_dict=False)[0])
    (shot,) = film(folder, [PROMPT], past=clip.transpose(1, 2), seconds=8 / 24, causal=False, **OURS)
    assert_same(shot, noisy, frames[0, -8:])


def test_wan22_without_a_clip_as_in_diffusers(ti2v, wan_folders: dict[str, Path]) -> None:
    generator = torch.Generator().manual_seed(11)
    latents = ti2v(PROMPT, NEGATIVE, num_frames=9, generator=generator, output_type="latent", **ASKED).frames
    (shot,) = film(wan_folders["ti2v"], [PROMPT], seconds=9 / 24, **OURS)
    assert (shot.past.latents - latents.transpose(1, 2)).abs().max() <= 1e-4


@pytest.fixture
def own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SkyReels pipeline of diffusers writes each step's result into a view of its latents, which the
    UniPC scheduler holds as the sample of the step before: its corrector then corrects the wrong sample.
    Here the scheduler holds a copy, as in the other pipelines.
    """
    step = UniPCMultistepScheduler.step

    def on_a_copy(self, output, t, sample, **options):
        return step(self, output, t, sample.clone(), **options)

    monkeypatch.setattr(UniPCMultistepScheduler, "step", on_a_copy)


@pytest.mark.usefixtures("own_samples")
def test_skyreels_as_in_diffusers(skyreels, wan_folders: dict[str, Path]) -> None:
    latents, frames = (
        skyreels(
            PROMPT, NEGATIVE, num_frames=9, generator=torch.Generator().manual_seed(11), output_type=kind,
            **ASKED,
        ).frames
        for kind in ("latent", "np")
    )  # fmt: skip
    (shot,) = film(wan_folders["skyreels"], [PROMPT], seconds=9 / 24, **OURS)
    assert_same(shot, latents, frames[0])


@pytest.mark.usefixtures("own_samples")
def test_skyreels_goes_on_after_its_own_frames_as_in_diffusers(
    skyreels, wan_folders: dict[str, Path]
) -> None:
    """Their long videos: 17 frames in windows of 13 that share 5, which stand at time step 0."""
    folder = wan_folders["skyreels"]
    long = {"num_frames": 17, "base_num_frames": 13, "overlap_history": 5, "output_type": "latent"}
    latents = skyreels(PROMPT, NEGATIVE, generator=torch.Generator().manual_seed(11), **long, **ASKED).frames
    noise = torch.Generator().manual_seed(11)
    torch.randn((1, 16, 4, 4, 8), generator=noise)
    second = torch.randn((1, 16, 3, 4, 8), generator=noise)[:, :, 2:]
    past = latents[:, :, 2:4].transpose(1, 2)
    (shot,) = film(folder, [PROMPT], past=past, seconds=4 / 24, causal=False, noise=second, **OURS)
    assert (shot.past.latents - latents[:, :, 4:].transpose(1, 2)).abs().max() <= 1e-4
