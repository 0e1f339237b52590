"""Which of several exact ways to attend is the cheapest, and what it is expected to cost.

The unit of cost is the time that unmasked attention takes for one (query, key) pair of 64 dimensions. The
constants were fitted to two threads of an AMD EPYC (AVX-512); `kernels/bench/ways.py` compares what comes of
them. Where gradients are wanted, the same way is the cheapest one nearly always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mocgen_kernels import masked
from mocgen_kernels.batched import MOST_NUMBERS
from mocgen_kernels.blocks import for_each, head_blocks
from mocgen_kernels.grouped import foldable, folded_dims, folded_runs
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import Routing, query_groups
from mocgen_kernels.selection import Selection

Method = Literal["unmasked", "folded mask", "mask", "masked products", "batched", "visits", "kernels"]

_MASK_PAIR = 3.0  # building and reading the mask included
_FOLDED_PAIR = 1.1
_VISITED_PAIR = 1.1
_BATCHED_PAIR = 1.05
_VISITOR = 20.0  # gather a query, merge its partial result
_SLOT = 30.0  # the same in padded lists
_FACTOR = 1.0  # 1 or 0 for a query and a context
_CELL = 8.0  # of all queries and contexts, in making padded lists and weights
_CALL = 12_000.0  # whatever its size
_VISIT = 18_000.0  # the same of a visit, which is several calls, in threads that wait for each other
_PIECE = 96_000.0  # the same of a piece of masked products, which is several calls
_CHUNK = 240_000.0  # lists of visitors, sums of their results
_LISTS = 120_000.0  # the same of padded lists, whatever their length
_WAITING = 1_000_000.0  # for torch's threads, which spin for a while after work that they shared
_MOST_CELLS = 1 << 20  # beyond, visits are cheaper


@dataclass(frozen=True, kw_only=True)
class AttentionInfo:
    """How `routed_attention` computes a selection.

    method: "unmasked": dense attention per run of queries that see the same contexts, with no work wasted;
        "folded mask" or "mask": dense attention to all candidates, less those that were not chosen;
        "masked products": the same by matrix products, weights of those that were not chosen times 0;
        "batched": every context is attended to by the queries that want it, all contexts in one call;
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
    if backend == "triton":
        method, cost = "kernels", scale * _sizes(selection).attended
    elif selection.words is None:
        method, cost = "unmasked", scale * _sizes(selection).attended
    elif backend == "cpu":
        method, cost = "visits", _visits(selection, dim)
    else:
        ways = dict(
            _by_rules(
                selection.layout, selection.routing, selection.batch, selection.heads,
                selection.query_length, dim, q.dtype, q.device.type, compensate, torch.get_num_threads(),
            )
        )  # fmt: skip
        if q.device.type == "cpu" and not compensate:
            ways["batched"] = _batched(selection, dim, min(ways.values()))
        method = min(ways, key=lambda way: ways[way])
        cost = ways[method]
    return AttentionInfo(
        backend=q.device.type if backend == "auto" else backend,
        method=method,  # type: ignore[arg-type]
        cost=cost,
        dense=dense,
    )


@lru_cache(maxsize=16)
def _by_rules(
    layout: ContextLayout,
    routing: Routing,
    batch: int,
    heads: int,
    query_length: int,
    dim: int,
    dtype: torch.dtype,
    device: str,
    compensate: bool,
    threads: int,
) -> dict[Method, float]:
    """Costs of the ways that depend on rules and sizes alone, not on what was chosen. Do not write to it.

    `threads`, which `head_blocks` and `_visits` ask torch for, is there for the cache.
    """
    selection = Selection(
        layout=layout, routing=routing, batch=batch, heads=heads, query_length=query_length, words=None
    )
    ways: dict[Method, float] = {}
    if device == "cpu" and not compensate:
        ways["masked products"] = _masked(selection, dim)
    elif foldable(selection, dim, dtype) and not compensate:
        ways["folded mask"] = _folded(selection, dim)
    else:
        ways["mask"] = batch * heads * dim / 64 * _MASK_PAIR * _sizes(selection).admissible
    if device == "cpu":
        ways["visits"] = _visits(selection, dim)
    return ways


class _Sizes(NamedTuple):
    """Of one head."""

    attended: float  # (query, key) pairs: anchors and the budget's share of the candidates
    admissible: float  # the same with all candidates
    visitors: float  # (query, routed context) pairs


def _sizes(selection: Selection) -> _Sizes:
    return _count(selection.layout, selection.first_query_context, selection.routing)


@lru_cache(maxsize=16)
def _count(layout: ContextLayout, first: int, routing: Routing) -> _Sizes:
    """Of queries from context `first` on."""
    attended, admissible, visitors, budget = 0.0, 0.0, 0.0, routing.budget(layout.count)
    for group in query_groups(layout, first, routing):
        queries, routed = group.stop - group.start, min(budget, len(group.candidates))
        anchors, candidates = (sum(layout.lengths[c] for c in x) for x in (group.anchors, group.candidates))
        attended += queries * (anchors + candidates * routed / max(1, len(group.candidates)))
        admissible += queries * (anchors + candidates)
        visitors += queries * routed
    return _Sizes(attended, admissible, visitors)


def _folded(selection: Selection, dim: int) -> float:
    runs = folded_runs(selection)
    pairs = sum(run.pairs for run in runs)
    dims = (dim + folded_dims(selection)) / 64
    return selection.batch * selection.heads * _FOLDED_PAIR * pairs * dims + _CALL * (4 + len(runs))


def _masked(selection: Selection, dim: int) -> float:
    groups, pieces = selection.batch * selection.heads, list(masked.pieces(selection))
    cells = groups * selection.query_length * selection.layout.count
    pairs = groups * sum(run.pairs for run in masked.runs_of(selection))
    return pairs * dim / 64 + _FACTOR * cells + _PIECE * len(pieces)


def _batched(selection: Selection, dim: int, most: float) -> float:
    """Infinite where it cannot be below `most`, or where lists take long to make or much memory."""
    pairs = selection.batch * selection.heads
    cells = pairs * selection.query_length * selection.layout.count
    sizes = _sizes(selection)
    slots = pairs * (selection.query_length + sizes.visitors)  # at least: an anchor each, no padding
    fixed, scale = _CELL * cells + _LISTS, dim / 64
    least = _BATCHED_PAIR * pairs * sizes.attended + _SLOT * slots
    if cells > _MOST_CELLS or slots * dim > MOST_NUMBERS or fixed + scale * least > most:
        return math.inf
    for_each([selection], _make_lists, numbers=cells)  # in one thread, for visits may follow
    lists = selection.lists
    if lists.count * dim > MOST_NUMBERS:
        return math.inf
    whole = sum(len(batch.rows) * (_BATCHED_PAIR * batch.size + _SLOT) for batch in lists.batches)
    return fixed + scale * whole + _CALL * len(lists.batches)


def _make_lists(selection: Selection) -> None:
    _ = selection.lists


def _visits(selection: Selection, dim: int) -> float:
    contexts = {context for group in selection.groups for context in group.candidates}
    blocks = head_blocks(selection)
    chunks = len(blocks[0].chunks(selection.query_length))
    calls = chunks * selection.batch * selection.heads * len(contexts) + len(blocks) * len(selection.groups)
    scale, sizes = selection.batch * selection.heads * dim / 64, _sizes(selection)
    fixed = _VISIT * calls + _CHUNK * chunks * len(blocks) + _WAITING * (torch.get_num_threads() > 1)
    return scale * (_VISITED_PAIR * sizes.attended + _VISITOR * sizes.visitors) + fixed
