"""The native DiT in the loop, stepped by a solver of second order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mocgen import sampling
from mocgen.denoise import ShotPlan, ShotState
from mocgen.model.attention import Recorder, Routing
from mocgen.model.contexts import PackedScene
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.memory import ContextMemory
from mocgen.model.sketch import RADIUS, VALUES, SketchModel, denormalised

SKETCH_STEPS = 24
OWN_NOISE = 7_919  # added to the seed of a shot: its sketch begins with other noise than its picture


class SecondOrderSolver:
    """Steps of `sampling.second_order_step`."""

    def __init__(self, steps: int, *, shift: float) -> None:
        self._all = sampling.noise_levels(steps, shift=shift).tolist()
        self.levels: Sequence[float] = self._all[:-1]
        self._before: Sequence[Tensor] | None = None

    def step(self, number: int, noisy: Sequence[Tensor], predicted: Sequence[Tensor]) -> list[Tensor]:
        t_before, t, t_next = self._all[max(0, number - 1)], self._all[number], self._all[number + 1]
        before: Sequence[Tensor | None] = self._before or [None] * len(noisy)
        self._before = predicted
        return [
            sampling.second_order_step(x, clean, earlier, t, t_next, t_before)
            for x, clean, earlier in zip(noisy, predicted, before, strict=True)
        ]


class NativeDenoiser:
    """The native DiT in the loop; it predicts clean latents, and a noise level of 1 is clean."""

    def __init__(self, dit: MoCDiT, *, shift: float) -> None:
        self._dit, self._shift = dit, shift
        self._sketches: dict[tuple[int, int], Tensor] = {}  # of shots, by place in the scene and seed

    @property
    def device(self) -> torch.device:
        return next(self._dit.parameters()).device

    def noise(self, plan: ShotPlan) -> Tensor:
        """Gaussian noise (1, T, C, h, w)."""
        config = self._dit.config
        shape = (1, plan.frames, config.latent_channels, config.latent_size, config.latent_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(plan.seed))

    def solver(self, steps: int) -> SecondOrderSolver:
        """For one group of shots."""
        return SecondOrderSolver(steps, shift=self._shift)

    def noised(self, latents: Tensor, noise: Tensor, amount: float) -> tuple[Tensor, float]:
        """Clean latents with a share of noise."""
        level = 1 - amount
        return latents if level == 1 else level * latents + amount * noise, level

    def run(
        self,
        shots: Sequence[ShotState],
        *,
        prompt: Tensor | None,
        routing: Routing,
        memory: ContextMemory | None,
        recorder: Recorder | None,
        generator: torch.Generator,
    ) -> tuple[list[Tensor], PackedScene]:
        """Predicted clean latents of the wanted shots, and the layout of all."""
        noisy = [
            NoisyShot(
                index=shot.plan.index,
                caption=shot.caption,
                latents=shot.latents,
                t=torch.full((1,), shot.level, device=self.device),
                wanted=None if shot.wanted else (),
                sketch=self._sketch(shot.plan) if shot.wanted else None,
            )
            for shot in shots
        ]
        outputs, scene = self._dit.run(
            noisy, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
        )
        return [x for x, shot in zip(outputs, shots, strict=True) if shot.wanted], scene

    def _sketch(self, plan: ShotPlan) -> Tensor | None:
        """The sketch that a shot is drawn after, (1, T, 6); None if the model draws none of this length."""
        if self._dit.config.sketch_frames != plan.frames:
            return None
        key = (plan.index, plan.seed)
        if key not in self._sketches:
            scene = plan.seed - plan.index  # the same for all shots of a scene, see `NativeModel.noise_seed`
            self._sketches[key] = draw_sketch(
                self._dit.sketcher, plan.caption, seed=plan.seed, size_seed=scene
            )
        return self._sketches[key]


def draw_sketch(model: SketchModel, caption: Tensor, *, seed: int, size_seed: int) -> Tensor:
    """A sketch for a caption (1, N) of word ids: (1, T, 6).

    Shots that share `size_seed` show objects of nearly the same size, whatever else differs.
    """
    device = caption.device
    own, size = (torch.Generator().manual_seed((s + OWN_NOISE) % 2**63) for s in (seed, size_seed))
    x = torch.randn((1, model.frames, VALUES), generator=own)
    x[..., RADIUS] = torch.randn((1, model.frames), generator=size)
    x = x.to(device)
    solver = SecondOrderSolver(SKETCH_STEPS, shift=1.0)
    for step, level in enumerate(solver.levels):
        (x,) = solver.step(step, [x], [model(x, torch.full((1,), level, device=device), caption)])
    return denormalised(x)
