"""Denoising: from noise to the latents of one group of shots, against the memory of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mocgen import sampling
from mocgen.model.attention import Recorder, Routing
from mocgen.model.contexts import PackedScene
from mocgen.model.memory import ContextMemory
from mocgen_kernels import ContextLayout


@dataclass(frozen=True, kw_only=True)
class ShotPlan:
    """One shot to denoise: its place in the scene, caption as the model reads it, and noise seed."""

    index: int
    caption: Tensor  # (1, N, ...)
    frames: int  # latent frames
    seed: int
    start: int = 0  # latent frames of the scene before it, where the model counts them


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance: its scale and the negative caption, as the model reads it."""

    scale: float
    negative: Tensor


@dataclass(frozen=True, kw_only=True)
class ShotState:
    """A shot in a forward pass: its latents (1, T, C, h, w) at a noise level of the model's own scale."""

    plan: ShotPlan
    caption: Tensor
    latents: Tensor
    level: float
    wanted: bool = True  # whether a prediction is asked for


class Solver(Protocol):
    """Noise levels and steps of one sampling run."""

    levels: Sequence[float]  # at the beginning of each step

    def step(self, number: int, noisy: Sequence[Tensor], predicted: Sequence[Tensor]) -> list[Tensor]:
        """The latents of each shot at the next level. Steps are taken in order."""


class Denoiser(Protocol):
    """A network that predicts what takes noise away, linear in the clean latents."""

    @property
    def device(self) -> torch.device: ...

    def noise(self, plan: ShotPlan) -> Tensor:
        """Gaussian noise (1, T, C, h, w) of a shot: a function of its seed alone."""

    def solver(self, steps: int) -> Solver:
        """For one group of shots."""

    def noised(self, latents: Tensor, noise: Tensor, amount: float) -> tuple[Tensor, float]:
        """Clean latents with a share of noise (0: none), and their noise level."""

    def run(
        self,
        shots: Sequence[ShotState],
        *,
        prompt: Tensor | None,
        routing: Routing,
        memory: ContextMemory | None,
        recorder: Recorder | None,
        generator: torch.Generator,
    ) -> tuple[list[Tensor], PackedScene | ContextLayout]:
        """Predictions for the wanted shots, (1, T, C, h, w) each, and the layout of all."""


@torch.inference_mode()
def denoise(
    model: Denoiser,
    plans: Sequence[ShotPlan],
    *,
    prompt: Tensor | None,
    steps: int,
    guidance: Guidance,
    routing: Routing,
    memory: ContextMemory | None,
    past: Sequence[ShotState] = (),
    watch: Callable[[int], Recorder | None] = lambda step: None,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Tensor]:
    """Denoise the given shots together and return their clean latents, (1, T, C, h, w) each.

    prompt: the global prompt, only with a scene's first shots. `memory` is read, not extended: see
    `remember`. `past`: finished shots that stand in the sequence, before the others. `watch` gives what
    watches a step (its number, from 0). `on_step` hears the number of steps done.
    """

    def predict(shots: Sequence[ShotState], step: int, recorder: Recorder | None = None) -> list[Tensor]:
        generator = torch.Generator().manual_seed(plans[0].seed + step)
        with memory.only_read() if memory is not None else nullcontext():
            outputs, _ = model.run(
                shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
            )
        return [x.float() for x in outputs]

    solver = model.solver(steps)
    noisy = [model.noise(plan).to(model.device) for plan in plans]
    for step, level in enumerate(solver.levels):
        now = (
            ShotState(plan=plan, caption=plan.caption, latents=x, level=level)
            for plan, x in zip(plans, noisy, strict=True)
        )
        shots = [*past, *now]
        predicted = predict(shots, step, watch(step))
        if guidance.scale != 1:
            free = predict([replace(shot, caption=guidance.negative) for shot in shots], step)
            predicted = [sampling.guide(c, u, guidance.scale) for c, u in zip(predicted, free, strict=True)]
        noisy = solver.step(step, noisy, predicted)
        on_step(step + 1)
    return noisy


@torch.inference_mode()
def finished(
    model: Denoiser, plans: Sequence[ShotPlan], latents: Sequence[Tensor], *, context_noise: float = 0.0
) -> list[ShotState]:
    """Finished shots as they stand in a forward pass: clean, or with a little noise of their own."""
    states = []
    for plan, clean in zip(plans, latents, strict=True):
        generator = torch.Generator().manual_seed(plan.index)
        noise = torch.randn(clean.shape, generator=generator)
        x, level = model.noised(clean.to(model.device), noise.to(model.device), context_noise)
        states.append(ShotState(plan=plan, caption=plan.caption, latents=x, level=level, wanted=False))
    return states


@torch.inference_mode()
def remember(
    model: Denoiser,
    shots: Sequence[ShotState],
    *,
    prompt: Tensor | None,
    routing: Routing,
    memory: ContextMemory,
    recorder: Recorder | None = None,
) -> None:
    """Append finished shots to the memory: one forward pass over them."""
    # random routing: the same on every recall
    generator = torch.Generator().manual_seed(shots[0].plan.index)
    _, scene = model.run(
        shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
    )
    memory.commit(scene)
