"""Rates and their intervals."""

from __future__ import annotations

import pytest

from mocgen.evaluation.rates import Rate


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_the_interval_is_that_of_wilson(hits: int, total: int, low: float, high: float) -> None:
    rate = Rate(hits=hits, total=total)
    assert rate.value == hits / total
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=2e-4)


def test_of_nothing_nothing_is_known() -> None:
    rate = Rate.of([])
    assert (rate.value, rate.low, rate.high) == (0.0, 0.0, 1.0)


def test_it_counts_true_outcomes() -> None:
    assert Rate.of([True, False, True]) == Rate(hits=2, total=3)
    assert set(Rate.of([True]).fields()) == {"value", "low", "high", "hits", "total"}


def test_the_value_lies_in_the_interval_whatever_the_rounding() -> None:
    for total in range(1, 200):
        for hits in {0, 1, total // 2, total}:
            rate = Rate(hits=hits, total=total)
            assert 0 <= rate.low <= rate.value <= rate.high <= 1
