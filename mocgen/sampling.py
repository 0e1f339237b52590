"""Flow matching: noise levels and solver steps, as pure functions.

A noisy latent at level t is x_t = t·x + (1 − t)·ε, with t = 0 noise and t = 1 clean
(rectified flow, Liu et al., arXiv 2209.03003). The model predicts the clean x.
"""

from __future__ import annotations

import torch
from torch import Tensor


def noise_levels(steps: int, *, shift: float = 1.0) -> Tensor:
    """Increasing levels from 0 to 1, (steps + 1,). shift > 1 spends more steps near the noise.

    t = u / (u + shift·(1 − u)) for u uniform: the time shift of Esser et al., arXiv 2403.03206,
    written for t = 1 clean.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return (u / (u + shift * (1 - u))).float()


def add_noise(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of clean latents (B, ...) at levels t (B,)."""
    level = t.view(-1, *[1] * (clean.ndim - 1))
    return level * clean + (1 - level) * noise


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans, arXiv 2207.12598) on predicted clean latents."""
    return unconditional + guidance * (conditional - unconditional)


def euler_step(x: Tensor, clean: Tensor, t: float, t_next: float) -> Tensor:
    """Go from level t to t_next along the straight line towards the predicted clean latents."""
    return x + (t_next - t) / (1 - t) * (clean - x)


def second_order_step(
    x: Tensor, clean: Tensor, previous: Tensor | None, t: float, t_next: float, t_before: float
) -> Tensor:
    """Like `euler_step`, with the prediction extrapolated from the step before (levels t_before → t).

    In λ = log(t / (1 − t)) this is DPM-Solver++(2M) (Lu et al., arXiv 2211.01095) for
    α = t, σ = 1 − t; the first step (t = 0, no `previous`) and the last (t_next = 1) are of first order.
    """
    if previous is None or t_before <= 0 or t_next >= 1:
        return euler_step(x, clean, t, t_next)
    before, here, after = (
        float(torch.logit(torch.tensor(level, dtype=torch.float64))) for level in (t_before, t, t_next)
    )
    ratio = (here - before) / (after - here)
    extrapolated = clean + (clean - previous) / (2 * ratio)
    return euler_step(x, extrapolated, t, t_next)
