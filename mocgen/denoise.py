"""Denoising: from noise to the latents of one group of shots, against the memory of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen.model.attention import Recorder, Routing
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.memory import ContextMemory

from . import sampling


@dataclass(frozen=True, kw_only=True)
class ShotPlan:
    """One shot to denoise: its place in the scene, caption ids (1, N), latent frames and noise seed."""

    index: int
    caption: Tensor
    frames: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance: its scale and the ids (1, N) of the negative caption (padding: none)."""

    scale: float
    negative: Tensor


def shot_noise(plan: ShotPlan, model: MoCDiT) -> Tensor:
    """Gaussian noise (1, T, C, h, w) of a shot: a function of its seed alone."""
    config = model.config
    generator = torch.Generator().manual_seed(plan.seed)
    shape = (1, plan.frames, config.latent_channels, config.latent_size, config.latent_size)
    return torch.randn(shape, generator=generator)


@torch.inference_mode()
def denoise(
    model: MoCDiT,
    plans: Sequence[ShotPlan],
    *,
    prompt: Tensor | None,
    steps: int,
    guidance: Guidance,
    routing: Routing,
    memory: ContextMemory,
    shift: float = 1.0,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Tensor]:
    """Denoise the given shots together and return their clean latents, (1, T, C, h, w) each.

    prompt: ids (1, P) of the global prompt, only with a scene's first shots. `memory` is read, not
    extended: see `remember`. `on_step` hears the number of steps done.
    """
    device = next(model.parameters()).device
    levels = sampling.noise_levels(steps, shift=shift).tolist()
    noisy = [shot_noise(plan, model).to(device) for plan in plans]
    before: list[Tensor] | None = None
    for step in range(steps):
        t = torch.full((1,), levels[step], device=device)

        def predict(negative: bool, watch: Recorder | None = None) -> list[Tensor]:
            return model(
                [
                    NoisyShot(
                        index=p.index, caption=guidance.negative if negative else p.caption, latents=x, t=t
                    )
                    for p, x in zip(plans, noisy, strict=True)
                ],
                prompt=prompt,
                routing=routing,
                memory=memory,
                recorder=watch,
                generator=torch.Generator().manual_seed(plans[0].seed + step),
            )

        clean = [x.float() for x in predict(False, recorder)]
        if guidance.scale != 1:
            clean = [
                sampling.guide(c, u.float(), guidance.scale)
                for c, u in zip(clean, predict(True), strict=True)
            ]
        noisy = [
            sampling.second_order_step(
                x, c, before[i] if before else None, levels[step], levels[step + 1], levels[max(0, step - 1)]
            )
            for i, (x, c) in enumerate(zip(noisy, clean, strict=True))
        ]
        before = clean
        on_step(step + 1)
    return noisy


@torch.inference_mode()
def remember(
    model: MoCDiT,
    plans: Sequence[ShotPlan],
    latents: Sequence[Tensor],
    *,
    prompt: Tensor | None,
    routing: Routing,
    memory: ContextMemory,
    recorder: Recorder | None = None,
) -> None:
    """Append finished shots to the memory: one forward pass over their clean latents (t = 1)."""
    device = next(model.parameters()).device
    shots = [
        NoisyShot(
            index=plan.index, caption=plan.caption, latents=x.to(device), t=torch.ones(1, device=device)
        )
        for plan, x in zip(plans, latents, strict=True)
    ]
    _, scene = model.run(shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder)
    memory.commit(scene)
