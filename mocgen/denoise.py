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

        def predict(
            captions: list[Tensor], step: int = step, recorder: Recorder | None = None
        ) -> list[Tensor]:
            t = torch.full((1,), levels[step], device=device)
            shots = [
                NoisyShot(index=plan.index, caption=caption, latents=x, t=t)
                for plan, caption, x in zip(plans, captions, noisy, strict=True)  # noqa: B023 (called at once)
            ]
            generator = torch.Generator().manual_seed(plans[0].seed + step)
            outputs = model(
                shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
            )
            return [x.float() for x in outputs]

        clean = predict([plan.caption for plan in plans], recorder=recorder)
        if guidance.scale != 1:
            free = predict([guidance.negative] * len(plans))
            clean = [sampling.guide(c, u, guidance.scale) for c, u in zip(clean, free, strict=True)]
        t_before, t, t_next = levels[max(0, step - 1)], levels[step], levels[step + 1]
        noisy = [
            sampling.second_order_step(x, c, before[i] if before else None, t, t_next, t_before)
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
            index=plan.index,
            caption=plan.caption,
            latents=x.to(device),
            t=torch.ones(1, device=device),
            wanted=(),  # only keys and values
        )
        for plan, x in zip(plans, latents, strict=True)
    ]
    generator = torch.Generator().manual_seed(plans[0].index)  # random routing: the same on every recall
    _, scene = model.run(
        shots, prompt=prompt, routing=routing, memory=memory, recorder=recorder, generator=generator
    )
    memory.commit(scene)
