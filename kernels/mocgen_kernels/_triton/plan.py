"""Tables for the dense part of the work: the same pairs in every head, known before any token is seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mocgen_kernels.grouped import context_spans
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import Routing, anchor_table, candidate_table, runs_of_equal_rows, static_table
from mocgen_kernels.selection import Selection


@dataclass(frozen=True, kw_only=True, eq=False)
class DensePlan:
    """Which queries see which keys in every head, from both sides. On the device; int32 where not said."""

    query_tiles: Tensor  # (T, 3): first query, one past the last query of its group, group
    skips: Tensor  # (G, C) uint8: contexts that a group's queries skip unless they are routed there
    logs: Tensor  # (C,) fp32: log₂ of the lengths of contexts
    spans_of: Tensor  # (G + 1,): where a group's spans begin
    spans: Tensor  # (S, 2): token range of keys
    key_tiles: Tensor  # (K, 3): first key, one past the last key of its context, context
    ranges_of: Tensor  # (C + 1,): where a context's ranges begin
    ranges: Tensor  # (R, 2): range of queries


def dense_plan(selection: Selection, rows: int, keys: int, device: torch.device) -> DensePlan:
    """The plan of the anchors, and of routed contexts where they are static; tiles of `rows` and `keys`."""
    layout, first = selection.layout, selection.first_query_context
    return _plan_of(layout, first, selection.routing, selection.words is None, rows, keys, device)


@lru_cache(maxsize=16)
def _plan_of(
    layout: ContextLayout,
    first: int,
    routing: Routing,
    static: bool,
    rows: int,
    keys: int,
    device: torch.device,
) -> DensePlan:
    seen = anchor_table(layout, first, routing)
    skips = candidate_table(layout, first, routing)
    if static:
        table = static_table(layout, first, routing)
        assert table is not None
        seen, skips = seen | table, skips & ~table
    return _plan(layout, first, seen, skips, rows, keys, device)


def _plan(
    layout: ContextLayout,
    first: int,
    seen: Tensor,
    skips: Tensor,
    rows: int,
    keys: int,
    device: torch.device,
) -> DensePlan:
    """`seen` and `skips`: (Cq, C) bool, key contexts that every query context sees, and may skip."""
    query_tiles, spans, skips_of = [], [], []
    for group, (begin, end) in enumerate(runs_of_equal_rows(torch.cat([seen, skips], dim=1))):
        tokens = layout.query_span(first, begin, end)
        query_tiles += [(start, tokens.stop, group) for start in range(tokens.start, tokens.stop, rows)]
        spans.append(context_spans(layout, seen[begin].nonzero().flatten().tolist()))
        skips_of.append(skips[begin])
    key_tiles, ranges = [], []
    base = layout.offsets[first]
    for context in range(layout.count):
        begin, end = layout.offsets[context], layout.offsets[context + 1]
        key_tiles += [(start, end, context) for start in range(begin, end, keys)]
        visitors = (seen[:, context].nonzero().flatten() + first).tolist()
        ranges.append([(a - base, b - base) for a, b in context_spans(layout, visitors)])
    spans_of, flat_spans = _flat(spans)
    ranges_of, flat_ranges = _flat(ranges)
    tables = (query_tiles, spans_of, flat_spans, key_tiles, ranges_of, flat_ranges)
    moved = [torch.tensor(table, dtype=torch.int32, device="cpu").to(device) for table in tables]
    return DensePlan(
        query_tiles=moved[0],
        skips=torch.stack(skips_of).to(torch.uint8).to(device),
        logs=torch.tensor(layout.lengths, dtype=torch.float32, device="cpu").log2().to(device),
        spans_of=moved[1],
        spans=moved[2],
        key_tiles=moved[3],
        ranges_of=moved[4],
        ranges=moved[5],
    )


def _flat(lists: list[list[tuple[int, int]]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Lists one after the other, and where each begins; one more entry for the end."""
    begins, flat = [0], list[tuple[int, int]]()
    for entries in lists:
        flat += entries
        begins.append(len(flat))
    return begins, flat or [(0, 0)]
