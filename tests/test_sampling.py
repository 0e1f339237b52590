"""Flow-matching schedule and solver steps."""

from __future__ import annotations

import pytest
import torch

from mocgen.sampling import add_noise, euler_step, guide, noise_levels, second_order_step


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_go_from_noise_to_clean(shift: float) -> None:
    levels = noise_levels(8, shift=shift)
    assert levels[0] == 0
    assert levels[-1] == 1
    assert (levels.diff() > 0).all()


def test_shift_spends_steps_near_the_noise() -> None:
    assert noise_levels(8, shift=3.0)[4] < noise_levels(8)[4] == 0.5


def test_euler_follows_the_straight_line() -> None:
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    x = add_noise(clean, noise, torch.tensor([0.2, 0.2]))
    moved = euler_step(x, clean, 0.2, 0.7)
    assert torch.allclose(moved, add_noise(clean, noise, torch.tensor([0.7, 0.7])), atol=1e-6)
    assert torch.allclose(euler_step(x, clean, 0.2, 1.0), clean, atol=1e-6)


def test_second_order_is_more_exact_than_euler() -> None:
    """Data x ~ N(0, s²): the exact prediction is linear in x_t, the exact flow scales x by a known factor."""
    s2 = 0.25

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        return t * s2 / (t**2 * s2 + (1 - t) ** 2) * x

    start = torch.tensor([1.0, -2.0])
    exact = start * s2**0.5  # from unit variance at t = 0 to variance s² at t = 1
    errors = []
    for second in (False, True):
        x, before = start, None
        levels = noise_levels(16).tolist()
        for i in range(16):
            clean = predict(x, levels[i])
            previous = before if second else None
            x = second_order_step(x, clean, previous, levels[i], levels[i + 1], levels[max(0, i - 1)])
            before = clean
        errors.append(float((x - exact).abs().max()))
    assert errors[1] < 0.5 * errors[0]


def test_guidance() -> None:
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([1.0])
    assert guide(conditional, unconditional, 1.0) == 2.0
    assert guide(conditional, unconditional, 3.0) == 4.0
