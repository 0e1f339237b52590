"""Which of several exact ways to attend is the cheapest, and what it is expected to cost.

The unit of cost is the time that unmasked attention takes for one (query, key) pair of 64 dimensions. The
constants were measured on an AMD EPYC (AVX-512); `kernels/bench/ways.py` compares what comes of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mocgen_kernels.blocks import head_blocks
from mocgen_kernels.grouped import foldable, folded_dims, folded_runs
from mocgen_kernels.selection import WORD_BITS, Selection

Method = Literal["unmasked", "folded mask", "mask", "sets", "visits", "kernels"]

_MASKED_PAIR = 3.0  # building and reading the mask included
_FOLDED_PAIR = 1.35
_VISITOR = 130.0  # gather a query, merge its partial result
_GATHERED = 45.0  # copy a key and its value, and prepare them for a call
_CALL = 25_000.0  # whatever its size
_CHUNK = 200_000.0  # lists of visitors, sums of their results
_SHARED_BY = 64  # queries of a set, at least, if sets are to pay
_VISITS_IN_REVERSE = 3.0  # how much more visits lose by a backward pass than matmuls do


@dataclass(frozen=True, kw_only=True)
class AttentionInfo:
    """How `routed_attention` computes a selection.

    method: "unmasked": dense attention per run of queries that see the same contexts, with no work wasted;
        "folded mask" or "mask": dense attention to all candidates, less those that were not chosen;
        "sets": dense attention per set of contexts that queries of a head attend to;
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
        elif not compensate and _may_share_sets(selection):
            ways["sets"] = _sets(selection, dim)
        if torch.is_grad_enabled() and q.requires_grad and "visits" in ways:
            ways["visits"] *= _VISITS_IN_REVERSE
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


def _may_share_sets(selection: Selection) -> bool:
    """Whether so few sets can be chosen that it is worth while to look which of them are."""
    candidates = max(len(group.candidates) for group in selection.groups)
    sets = math.comb(candidates, min(int(selection.budget), candidates))
    return selection.layout.count <= WORD_BITS and sets * _SHARED_BY <= selection.query_length


def _sets(selection: Selection, dim: int) -> float:
    lengths, sets = selection.layout.lengths, selection.sets
    keys = [sum(lengths[c] for c in contexts) for _, contexts in sets.members]
    pairs = sum((count + _GATHERED) * n for count, n in zip(sets.counts, keys, strict=True))
    return pairs * dim / 64 + _CALL * len(keys)


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
    return scale * (_attended(selection) + _VISITOR * visitors) + fixed
