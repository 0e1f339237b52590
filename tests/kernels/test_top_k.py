"""The k highest of every column, by partial sort and by threshold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mocgen_kernels.top_k import Allowed, best


def expected(scores: Tensor, allowed: Tensor, top_k: int) -> Tensor:
    """Python's stable sort, column by column."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    for b, h, q in torch.cartesian_prod(*(torch.arange(scores.shape[i]) for i in (0, 1, 3))).tolist():
        candidates = [c for c in range(len(allowed)) if allowed[c, q]]
        candidates.sort(key=lambda c: -float(scores[b, h, c, q]))
        chosen[b, h, candidates[:top_k], q] = True
    return chosen


KINDS = {
    "normal": lambda x: x,
    "ties": lambda x: x.mul(2).round(),
    "all equal": torch.zeros_like,
    "heavy tails": lambda x: x**9,
    "one outlier": lambda x: x + 1e6 * (x == x.amax(dim=2, keepdim=True)),
    "far from zero": lambda x: x + 1000,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [7, 24, 60, 131])
@pytest.mark.parametrize("top_k", [1, 6, 20, 55])
def test_best(kind: str, count: int, top_k: int) -> None:
    generator = torch.Generator().manual_seed(count + top_k)
    scores = KINDS[kind](torch.randn(1, 2, count, 40, generator=generator))
    for share in (1.0, 0.7, 0.1):
        allowed = torch.rand(count, 40, generator=generator) <= share
        chosen = best(scores.clone(), Allowed(allowed, [1] * 40), top_k)
        assert torch.equal(chosen.bool(), expected(scores, allowed, top_k))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "top_k"), [(4, 2), (8, 5), (60, 54)])
def test_all_but_a_few(kind: str, count: int, top_k: int) -> None:
    """Every column lacks one candidate, as those of equal shots lack their own."""
    generator = torch.Generator().manual_seed(count)
    scores = KINDS[kind](torch.randn(1, 2, count, 40, generator=generator))
    allowed = torch.arange(count)[:, None] != torch.arange(40) % count
    chosen = best(scores.clone(), Allowed(allowed, [1] * 40), top_k)
    assert torch.equal(chosen.bool(), expected(scores, allowed, top_k))


def test_none() -> None:
    assert not best(torch.randn(1, 1, 60, 3), Allowed(torch.ones(60, 3, dtype=torch.bool), [1] * 3), 0).any()
