"""Which of several exact ways to attend is the cheapest, and what it is expected to cost.

The unit of cost is the time that unmasked attention takes for one (query, key) pair of 64 dimensions. The
constants were fitted to two threads of an AMD EPYC (AVX-512); `kernels/bench/ways.py` compares what comes of
them. Where gradients are wanted, a pair costs four times as much in every way, so the same one is the
cheapest nearly always; unmasked attention alone has costs of its own there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mocgen_kernels import masked
from mocgen_kernels.blocks import head_blocks, worth_our_threads
from mocgen_kernels.grouped import foldable, folded_dims, folded_runs, static_runs
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.parts import is_fused
from mocgen_kernels.rules import Routing, query_groups
from mocgen_kernels.selection import Selection

Method = Literal["unmasked", "folded mask", "mask", "masked products", "visits", "kernels"]

_MASK_PAIR = 3.0  # building and reading the mask included
_FOLDED_PAIR = 1.1
_VISITED_PAIR = 0.95
_VISITOR = 28.0  # gather a query, merge its partial result
_FACTOR = 0.5  # 1 or 0 for a query and a context
_CELL = 6.0  # of all queries and contexts, in making lists
_CALL = 12_000.0  # whatever its size
_BLOCK = 60_000.0  # the same of a block of masked products, which is several calls
_RUN = 20_000.0  # the same of a run of unmasked attention
_RUN_QUERIES = 30.0  # as many more would cost no more: fused attention is slow for few
_RUN_TOKEN = 25.0  # in its backward pass: zeros for keys and values that it did not see
_CHUNK = 700_000.0  # of one head: lists of visitors, sums of their results
_LISTS = 450_000.0  # the same of several heads
_WAITING = 4_000_000.0  # of our threads for those of torch, which spin for a while after their work


@dataclass(frozen=True, kw_only=True)
class AttentionInfo:
    """How `routed_attention` computes a selection.

    method: "unmasked": dense attention per run of queries that see the same contexts, with no work wasted;
        "folded mask" or "mask": dense attention to all candidates, less those that were not chosen;
        "masked products": the same by matrix products, weights of those that were not chosen times 0;
        "visits": every context is attended to by the queries that chose it; "kernels": the same, in Triton.
    cost: expected work in (query, key) pairs of dense attention, over all batch items and heads.
    dense: pairs of dense attention without any rules, for comparison.
    """

    backend: str
    method: Method
    cost: float
    dense: float

    @property
    def reason(self) -> str:
        """One line for people."""
        share = self.cost / self.dense
        return f"{self.method} on {self.backend}: about {share:.2f} × the time of dense attention"


def attention_info(
    selection: Selection, q: Tensor, *, backend: str = "auto", compensate: bool = False
) -> AttentionInfo:
    """What `routed_attention` does for these queries (B, Lq, H, D) with this backend."""
    dim = q.shape[-1]
    pairs = selection.batch * selection.heads
    dense = float(pairs * selection.query_length * selection.layout.length) * dim / 64
    scale = pairs * dim / 64
    method: Method
    if backend == "triton":
        method, cost = "kernels", scale * _sizes(selection).attended
    elif backend == "cpu" and selection.words is None:
        method, cost = "unmasked", _unmasked(selection, dim, learning=False)
    elif backend == "cpu":
        method, cost = "visits", _visits(selection, dim, single=compensate)
    else:
        method, cost = _cheapest(
            selection.layout, selection.routing, selection.batch, selection.heads, selection.query_length,
            dim, q.dtype, q.device.type, selection.words is None, compensate,
            torch.is_grad_enabled() and q.requires_grad, torch.get_num_threads(),
        )  # fmt: skip
    return AttentionInfo(
        backend=q.device.type if backend == "auto" else backend,
        method=method,
        cost=cost,
        dense=dense,
    )


@lru_cache(maxsize=16)
def _cheapest(
    layout: ContextLayout,
    routing: Routing,
    batch: int,
    heads: int,
    query_length: int,
    dim: int,
    dtype: torch.dtype,
    device: str,
    static: bool,
    compensate: bool,
    learning: bool,
    threads: int,
) -> tuple[Method, float]:
    """The way and its cost, which depend on rules and sizes alone, not on what was chosen.

    `static`: the selection has no words. `threads`, which `head_blocks` and `_visits` ask torch for, is there
    for the cache.
    """
    selection = Selection(
        layout=layout, routing=routing, batch=batch, heads=heads, query_length=query_length,
        words=None if static else torch.empty(0),
    )  # fmt: skip
    by_products = device == "cpu" and not compensate
    ways: dict[Method, float] = {}
    if static:
        ways["unmasked"] = _unmasked(selection, dim, learning=learning)
        by_products = by_products and not is_fused(dtype)
    elif device == "cpu":
        ways["visits"] = _visits(selection, dim, single=compensate)
    if by_products:
        ways["masked products"] = _masked(selection, dim)
    elif not static and not compensate and foldable(selection, dim, dtype):
        ways["folded mask"] = _folded(selection, dim)
    elif not static:
        ways["mask"] = batch * heads * dim / 64 * _MASK_PAIR * _sizes(selection).admissible
    return min(ways.items(), key=lambda item: item[1])


class _Sizes(NamedTuple):
    """Of one head."""

    attended: float  # (query, key) pairs: anchors and the budget's share of the candidates
    admissible: float  # the same with all candidates
    anchors: float  # (query, anchor) pairs
    visitors: float  # (query, routed context) pairs


def _sizes(selection: Selection) -> _Sizes:
    return _count(selection.layout, selection.first_query_context, selection.routing)


@lru_cache(maxsize=16)
def _count(layout: ContextLayout, first: int, routing: Routing) -> _Sizes:
    """Of queries from context `first` on."""
    attended, admissible, own, visitors, budget = 0.0, 0.0, 0, 0.0, routing.budget(layout.count)
    for group in query_groups(layout, first, routing):
        queries, routed = group.stop - group.start, min(budget, len(group.candidates))
        anchors, candidates = (sum(layout.lengths[c] for c in x) for x in (group.anchors, group.candidates))
        attended += queries * (anchors + candidates * routed / max(1, len(group.candidates)))
        admissible += queries * (anchors + candidates)
        own += queries * len(group.anchors)
        visitors += queries * routed
    return _Sizes(attended, admissible, own, visitors)


def _unmasked(selection: Selection, dim: int, *, learning: bool) -> float:
    layout, pairs = selection.layout, 0.0
    runs = static_runs(layout, selection.first_query_context, selection.routing)
    for run in runs:
        queries = run.queries.stop - run.queries.start
        pairs += (queries + _RUN_QUERIES) * sum(layout.lengths[context] for context in run.attended)
    if learning and len(runs) > 1:
        pairs += _RUN_TOKEN * layout.length * len(runs)
    return selection.batch * selection.heads * dim / 64 * pairs + _RUN * len(runs)


def _folded(selection: Selection, dim: int) -> float:
    runs = folded_runs(selection)
    pairs = sum(run.pairs for run in runs)
    dims = (dim + folded_dims(selection)) / 64
    return selection.batch * selection.heads * _FOLDED_PAIR * pairs * dims + _CALL * (4 + len(runs))


def _masked(selection: Selection, dim: int) -> float:
    groups, blocks = selection.batch * selection.heads, sum(len(x.blocks) for x in masked.pieces(selection))
    cells = groups * selection.query_length * selection.layout.count
    pairs = groups * sum(run.pairs for run in masked.runs_of(selection))
    return pairs * dim / 64 + _FACTOR * cells + _BLOCK * blocks


def _visits(selection: Selection, dim: int, *, single: bool) -> float:
    pairs, sizes = selection.batch * selection.heads, _sizes(selection)
    blocks, visitors = head_blocks(selection, dim, single=single), sizes.visitors
    if len(blocks) < pairs:
        cells = pairs * selection.query_length * selection.layout.count
        visitors += sizes.anchors
        fixed = _CELL * cells + _LISTS * len(blocks)
    else:
        fixed = _CHUNK * len(blocks) * len(blocks[0].chunks(selection.query_length))
    if worth_our_threads(selection, dim):
        fixed += _WAITING
    return pairs * dim / 64 * (_VISITED_PAIR * sizes.attended + _VISITOR * visitors) + fixed
