"""Which of several exact ways to attend is the cheapest, and what it is expected to cost.

The unit of cost is the time that unmasked attention takes for one (query, key) pair of 64 dimensions. The
constants were fitted to one and two threads of an AMD EPYC (AVX-512); `kernels/bench/ways.py` compares what
comes of them. Where gradients are wanted, the same way is the cheapest one nearly always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mocgen_kernels.batched import MOST_NUMBERS
from mocgen_kernels.blocks import head_blocks
from mocgen_kernels.grouped import foldable, folded_dims, folded_runs
from mocgen_kernels.selection import Selection

Method = Literal["unmasked", "folded mask", "mask", "batched", "visits", "kernels"]

_MASKED_PAIR = 3.0  # building and reading the mask included
_FOLDED_PAIR = 1.1
_VISITED_PAIR = 1.22
_BATCHED_PAIR = 1.08
_VISITOR = 20.0  # gather a query, merge its partial result
_SLOT = 40.0  # the same in padded lists
_CELL = 5.0  # of all queries and contexts, in making padded lists and weights
_CALL = 12_000.0  # whatever its size
_CHUNK = 240_000.0  # lists of visitors, sums of their results
_LISTS = 170_000.0  # the same of padded lists, whatever their length
_MOST_CELLS = 1 << 17  # beyond, visits are cheaper


@dataclass(frozen=True, kw_only=True)
class AttentionInfo:
    """How `routed_attention` computes a selection.

    method: "unmasked": dense attention per run of queries that see the same contexts, with no work wasted;
        "folded mask" or "mask": dense attention to all candidates, less those that were not chosen;
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
        method, cost = "kernels", scale * _attended(selection)
    elif selection.words is None:
        method, cost = "unmasked", scale * _attended(selection)
    elif backend == "cpu":
        method, cost = "visits", _visits(selection, dim)
    else:
        ways = {"visits": _visits(selection, dim), "mask": scale * _MASKED_PAIR * _admissible(selection)}
        if foldable(selection, dim, q.dtype) and not compensate:
            ways["folded mask"] = _folded(selection, dim)
            del ways["mask"]
        if q.device.type != "cpu":
            del ways["visits"]
        elif not compensate:
            ways["batched"] = _batched(selection, dim, min(ways.values()))
        method = min(ways, key=lambda way: ways[way])
        cost = ways[method]
    return AttentionInfo(
        backend=q.device.type if backend == "auto" else backend,
        method=method,  # type: ignore[arg-type]
        cost=cost,
        dense=dense,
    )


def _attended(selection: Selection) -> float:
    """(query, key) pairs of one head: anchors and the budget's share of the candidates."""
    lengths, total = selection.layout.lengths, 0.0
    for group in selection.groups:
        anchors, candidates = (sum(lengths[c] for c in x) for x in (group.anchors, group.candidates))
        routed = min(selection.budget, len(group.candidates)) / max(1, len(group.candidates))
        total += (group.stop - group.start) * (anchors + routed * candidates)
    return total


def _admissible(selection: Selection) -> float:
    """(query, key) pairs of one head: anchors and all candidates."""
    lengths = selection.layout.lengths
    return float(
        sum(
            (group.stop - group.start) * sum(lengths[c] for c in (*group.anchors, *group.candidates))
            for group in selection.groups
        )
    )


def _folded(selection: Selection, dim: int) -> float:
    runs = folded_runs(selection)
    pairs = sum((q.stop - q.start) * (k.stop - k.start) for q, k in runs)
    dims = (dim + folded_dims(selection)) / 64
    return selection.batch * selection.heads * _FOLDED_PAIR * pairs * dims + _CALL * (4 + len(runs))


def _batched(selection: Selection, dim: int, most: float) -> float:
    """Infinite where it cannot be below `most`, or where lists take long to make or much memory."""
    pairs = selection.batch * selection.heads
    cells = pairs * selection.query_length * selection.layout.count
    fixed = _CELL * cells + _LISTS
    if cells > _MOST_CELLS or fixed + _BATCHED_PAIR * pairs * _attended(selection) * dim / 64 > most:
        return math.inf
    lists = selection.lists
    if lists.count * dim > MOST_NUMBERS:
        return math.inf
    slots = sum(len(batch.rows) * (_BATCHED_PAIR * batch.size + _SLOT) for batch in lists.batches)
    return fixed + slots * dim / 64 + _CALL * len(lists.batches)


def _visits(selection: Selection, dim: int) -> float:
    visitors = sum(
        (group.stop - group.start) * min(selection.budget, len(group.candidates))
        for group in selection.groups
    )
    contexts = {context for group in selection.groups for context in group.candidates}
    blocks = head_blocks(selection)
    chunks = len(blocks[0].chunks(selection.query_length))
    calls = chunks * selection.batch * selection.heads * len(contexts) + len(blocks) * len(selection.groups)
    scale = selection.batch * selection.heads * dim / 64
    fixed = _CALL * calls + _CHUNK * chunks * len(blocks)
    return scale * (_VISITED_PAIR * _attended(selection) + _VISITOR * visitors) + fixed
