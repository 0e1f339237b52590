"""The Wan transformer in the loop, stepped by the scheduler that its checkpoint names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mocgen.denoise import ShotPlan, ShotState
from mocgen.model.attention import Recorder, Routing
from mocgen.model.memory import ContextMemory
from mocgen.model.wan import WanDiT, WanShot
from mocgen_kernels import ContextLayout

CLEAN, NOISE = 0, 1000  # time steps


class SchedulerSolver:
    """One diffusers scheduler for each shot: those of higher order remember earlier predictions."""

    def __init__(self, make: Callable[[], Any], steps: int, device: torch.device) -> None:
        self._make, self._steps, self._device = make, steps, device
        self._schedulers: list[Any] = []
        self._times = self._new().timesteps
        self.levels: Sequence[float] = self._times.tolist()

    def step(self, number: int, noisy: Sequence[Tensor], predicted: Sequence[Tensor]) -> list[Tensor]:
        """One step of each shot's scheduler."""
        while len(self._schedulers) < len(noisy):
            self._schedulers.append(self._new())
        return [
            scheduler.step(velocity, self._times[number], x, return_dict=False)[0]
            for scheduler, velocity, x in zip(self._schedulers, predicted, noisy, strict=True)
        ]

    def _new(self) -> Any:
        scheduler = self._make()
        scheduler.set_timesteps(self._steps, device=self._device)
        scheduler.set_begin_index(0)
        return scheduler


class WanDenoiser:
    """Predicts velocities; a noise level is a time step, and 0 is clean. Latents are h × w."""

    def __init__(
        self,
        dit: WanDiT,
        make_scheduler: Callable[[], Any],
        *,
        latent_size: tuple[int, int],
        fps: float,
    ) -> None:
        self._dit, self._make_scheduler = dit, make_scheduler
        self._latent_size, self._fps = latent_size, fps

    @property
    def device(self) -> torch.device:
        return self._dit.scale_shift_table.device

    def noise(self, plan: ShotPlan) -> Tensor:
        """Gaussian noise (1, T, C, h, w): the numbers that diffusers draws for a seed."""
        generator = torch.Generator().manual_seed(plan.seed)
        shape = (1, self._dit.config.in_channels, plan.frames, *self._latent_size)
        return torch.randn(shape, generator=generator).transpose(1, 2)

    def solver(self, steps: int) -> SchedulerSolver:
        """For one group of shots."""
        return SchedulerSolver(self._make_scheduler, steps, self.device)

    def noised(self, latents: Tensor, noise: Tensor, amount: float) -> tuple[Tensor, float]:
        """Clean latents with a share of noise."""
        return (1 - amount) * latents + amount * noise, CLEAN + amount * (NOISE - CLEAN)

    def run(
        self,
        shots: Sequence[ShotState],
        *,
        prompt: Tensor | None,
        routing: Routing,
        memory: ContextMemory | None,
        recorder: Recorder | None,
        generator: torch.Generator,
    ) -> tuple[list[Tensor], ContextLayout]:
        """Velocities of the wanted shots, (1, T, C, h, w) each; the global prompt is in the captions."""
        states = [
            WanShot(
                index=shot.plan.index,
                start=shot.plan.start,
                text=shot.caption,
                latents=shot.latents,
                t=torch.full((1, shot.latents.shape[1]), shot.level, device=self.device),
                wanted=shot.wanted,
            )
            for shot in shots
        ]
        return self._dit.run(
            states,
            routing=routing,
            fps=self._fps,
            memory=memory,
            recorder=recorder,
            generator=generator,
        )
