"""Settings and a model's defaults → exactly what a run will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from mocgen.bundle import NativeModel
from mocgen.errors import UsageError
from mocgen.model.attention import Routing
from mocgen.settings import Settings
from mocgen.storyboard import Shot

VIEWABLE = 384  # pixels; smaller pictures are scaled up to about this unless the user says otherwise
SHORTEST_SHOT, LONGEST_SHOT = 0.25, 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do: sizes in pixels, lengths in frames and seconds."""

    size: tuple[int, int]  # (width, height) of the output
    fps: Fraction  # of the output
    frames: int  # latent frames of a shot
    seconds: tuple[Fraction, ...]  # of each shot
    steps: int
    guidance: float
    routing: Routing


def make_plan(
    model: NativeModel,
    shots: Sequence[Shot],
    settings: Settings,
    *,
    clip_size: tuple[int, int] | None = None,
    clip_fps: Fraction | None = None,
) -> Plan:
    """Resolve a run. When a clip is extended, its size and frame rate are those of the output.

    Raises:
        UsageError: a size, frame rate or shot length that this model cannot reach.
    """
    defaults = model.defaults
    if clip_size is not None and settings.size is not None:
        raise UsageError("--size does not go with extend: the continuation has the clip's own size")
    if clip_fps is not None and settings.fps is not None:
        raise UsageError("--fps does not go with extend: the continuation has the clip's own frame rate")
    natural = Fraction(defaults.frames) / Fraction(defaults.fps)
    return Plan(
        size=clip_size or _size(model.codec.config.size, settings),
        fps=clip_fps or Fraction(settings.fps or defaults.fps).limit_denominator(1001),
        frames=defaults.frames,
        seconds=tuple(_seconds(shot.seconds or settings.seconds, natural) for shot in shots),
        steps=settings.steps or defaults.steps,
        guidance=defaults.guidance if settings.guidance is None else settings.guidance,
        routing=Routing(
            policy=settings.attention,
            top_k=settings.top_k or defaults.top_k,
            causal=settings.causal,
        ),
    )


def _size(native: int, settings: Settings) -> tuple[int, int]:
    if not settings.upscale:
        if settings.size not in (None, (native, native)):
            raise UsageError(f"--no-upscale writes the model's own {native}x{native}; leave out --size")
        return native, native
    if settings.size is None:
        side = native * max(1, round(VIEWABLE / native))
        return side, side
    width, height = settings.size
    if width != height or width < native:
        side = max(native, min(width, height))
        raise UsageError(
            f"size {width}x{height} cannot be reached: this model draws square pictures of "
            f"{native}x{native} and larger; try --size {side}x{side}"
        )
    return width, height


def _seconds(asked: float | None, natural: Fraction) -> Fraction:
    if asked is None:
        return natural
    if not SHORTEST_SHOT <= asked <= LONGEST_SHOT:
        raise UsageError(
            f"a shot of {asked:g} seconds cannot be made: this model's shots last "
            f"{SHORTEST_SHOT:g} to {LONGEST_SHOT:g} seconds"
        )
    return Fraction(asked).limit_denominator(1000)


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
