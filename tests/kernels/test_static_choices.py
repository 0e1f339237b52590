"""Choices in which tokens have no say: masked products for them, and when they are taken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from attending import errors, layouts, masked_attention, shots_of, with_gradients
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, attention_info, masked, route, routed_attention
from mocgen_kernels.rules import QueryRun, Routing, query_runs

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
CHOICES: list[dict[str, Any]] = [
    {"top_k": 0},
    {"top_k": 1000},
    {"policy": "dense", "causal": False},
    {"policy": "window", "top_k": 2},
    {"policy": "first-frame"},
    {"policy": "window", "top_k": 1, "text_anchors": "all", "local_window": 1},
]


@given(
    choice=st.sampled_from(CHOICES),
    layout=layouts(),
    batch=st.integers(1, 2),
    first=st.integers(0, 40),
    blocks=st.sampled_from([(1024, 512), (7, 5)]),
)
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_masked_products_equal_masked_attention(
    choice: dict[str, Any], layout: ContextLayout, batch: int, first: int, blocks: tuple[int, int]
) -> None:
    begin = layout.offsets[first % layout.count]
    shape = (batch, layout.length, 2, 8)
    q, k, v = torch.randn(3, *shape, generator=torch.Generator().manual_seed(first), dtype=torch.float64)
    q, k, v = (x.requires_grad_() for x in (q[:, begin:], k, v))
    selection = route(q, k, layout, **choice)
    assert selection.words is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masked, "_QUERIES", blocks[0])
        patch.setattr(masked, "_KEYS", blocks[1])
        masked._blocks.cache_clear()
        actual = with_gradients(masked.routed_attention(q, k, v, selection), q, k, v)
    masked._blocks.cache_clear()
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    assert max(errors(actual, expected)) <= 1e-10


def test_far_logits_of_some_queries(qkv: Make) -> None:
    """Some runs need references other than 0, others do not."""
    layout = shots_of([8] * 6)
    q, k, v = qkv(layout, batch=1, dtype=torch.float64)
    with torch.no_grad():
        q[:, 30:, :, 0], k[:, 30:, :, 0] = 20.0, 40.0
    selection = route(q, k, layout, policy="window", top_k=1)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masked, "_PAIRS_PER_BLOCK", 0)
        assert len(list(masked.pieces(selection))) == 6
        actual = with_gradients(masked.routed_attention(q, k, v, selection), q, k, v)
    assert max(errors(actual, expected)) <= 1e-9


@pytest.mark.parametrize("learning", [True, False])
def test_the_cheapest_way_is_taken(*, learning: bool) -> None:
    """Unmasked for one run of queries, products for many short ones, whose backward pass is worse still."""
    ways = {
        "one shot": (ContextLayout(lengths=[64] * 16, kinds=[Kind.VIDEO] * 16, shots=[0] * 16), {}),
        "all that came before": (shots_of([16] * 64), {"policy": "dense"}),
        "a window": (shots_of([64] * 32), {"policy": "window", "top_k": 1}),
    }
    expected = ["unmasked", "masked products", "masked products" if learning else "unmasked"]
    for (layout, choice), way in zip(ways.values(), expected, strict=True):
        shape = (3, 1, layout.length, 4, 64)
        q, k, v = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_(learning)
        selection = route(q, k, layout, **choice)
        assert attention_info(selection, q).method == way
        assert attention_info(selection, q, backend="cpu").method == "unmasked"
        assert attention_info(selection, q.to(torch.bfloat16)).method == "unmasked"
        outs = [routed_attention(q, k, v, layout, selection, backend=b) for b in ("auto", "reference")]
        assert (outs[0] - outs[1]).abs().max() <= 1e-5


@given(
    layout=layouts(shots=40, contexts=(4, 8), longest=60),
    causal=st.booleans(),
    block=st.sampled_from([(1000, 1000), (1000, 16)]),
    per_block=st.integers(0, 2000),
)
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_no_cut_of_the_queries_costs_less(
    layout: ContextLayout, causal: bool, block: tuple[int, int], per_block: int
) -> None:
    routing = Routing(top_k=1, causal=causal)
    runs = query_runs(layout, 0, routing, block=block, pairs_per_block=per_block)
    assert [run.queries.start for run in runs[1:]] == [run.queries.stop for run in runs[:-1]]
    assert (runs[0].queries.start, runs[-1].queries.stop) == (0, layout.length)

    def cost(some: list[QueryRun] | tuple[QueryRun, ...]) -> int:
        return sum(run.pairs + per_block * -(-(run.keys.stop - run.keys.start) // block[1]) for run in some)

    single = query_runs(layout, 0, routing, block=(1, 1), pairs_per_block=0)
    for size in range(len(single)):
        for cuts in combinations(range(1, len(single)), size):
            other = [joint(single[a:b]) for a, b in pairwise((0, *cuts, len(single)))]
            assert cost(runs) <= cost(other)


def joint(runs: tuple[QueryRun, ...]) -> QueryRun:
    """One run of all."""

    def union(spans: list[slice]) -> slice:
        return slice(min(x.start for x in spans), max(x.stop for x in spans))

    parts = zip(*((run.queries, run.contexts, run.keys) for run in runs), strict=True)
    queries, contexts, keys = (union(list(x)) for x in parts)
    return QueryRun(queries=queries, contexts=contexts, keys=keys)
