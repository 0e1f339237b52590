"""Settings and a model's defaults → exactly what a run will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from mocgen.errors import UsageError
from mocgen.model.attention import Routing
from mocgen.settings import Settings
from mocgen.storyboard import Shot
from mocgen.video_model import Size, VideoModel


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do: sizes in pixels, lengths in frames and seconds."""

    canvas: Size  # of the picture that the model draws
    size: Size  # of the output
    fps: Fraction  # of the output
    latents: tuple[int, ...]  # latent frames of each shot
    seconds: tuple[Fraction, ...]  # of each shot
    steps: int
    guidance: float
    routing: Routing
    context_noise: float = 0.0


def make_plan(
    model: VideoModel,
    shots: Sequence[Shot],
    settings: Settings,
    *,
    clip_size: Size | None = None,
    clip_fps: Fraction | None = None,
) -> Plan:
    """Resolve a run. When a clip is extended, its size and frame rate are those of the output.

    Raises:
        UsageError: a size, frame rate, shot length or way to run that this model cannot reach.
    """
    defaults, extends = model.defaults, clip_fps is not None
    model.check(settings, extends=extends)
    if extends and settings.fps is not None:
        raise UsageError("--fps does not go with extend: the continuation has the clip's own frame rate")
    canvas, size = model.sizes(settings, clip_size)
    lengths = model.lengths([shot.seconds or settings.seconds for shot in shots], after_clip=extends)
    return Plan(
        canvas=canvas,
        size=size,
        fps=clip_fps or Fraction(settings.fps or defaults.fps).limit_denominator(1001),
        latents=tuple(length.latents for length in lengths),
        seconds=tuple(length.seconds for length in lengths),
        steps=settings.steps or defaults.steps,
        guidance=defaults.guidance if settings.guidance is None else settings.guidance,
        routing=model.routing(settings),
        context_noise=settings.context_noise,
    )


def pick_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to run on; raises UsageError if CUDA is asked for and not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: no CUDA device can be used here; leave the option out to run on the CPU"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def pick_dtype(name: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The dtype to run in: bf16 by default on a GPU, fp32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.float32 if name == "fp32" else torch.bfloat16


def hold(frames: int, count: int) -> np.ndarray:
    """Which of `frames` frames to show at each of `count` evenly spaced moments: (count,) indices."""
    return np.arange(count) * frames // count


def shot_ends(plan: Plan) -> list[int]:
    """Frame of the output at which each shot ends; rounding never adds up."""
    ends: list[int] = []
    total = Fraction(0)
    for seconds in plan.seconds:
        total += seconds
        ends.append(max(round(total * plan.fps), (ends[-1] if ends else 0) + 1))
    return ends
