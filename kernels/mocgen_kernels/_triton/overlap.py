"""Short contexts: which queries share a tile, which contexts the tile then goes over, and whether it pays.

A visit of one query to one context through the lists costs, besides the work, a passage of its fp32 state
through memory and back, however short the context. A tile of neighbours that keeps its state in registers
goes over every context that one of them chose, and does in vain what the others did not choose. So queries
with equal rules are sorted by what they chose, and the two costs are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.descriptors import context_offsets
from mocgen_kernels._triton.lists import hits_of
from mocgen_kernels._triton.plan import DensePlan
from mocgen_kernels._triton.rows import load_tile
from mocgen_kernels._triton.saved import Inputs
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import Routing, candidate_table

LONGEST = 512  # mean tokens of a candidate above which sharing cannot pay; 0 turns it off
DTYPES = (torch.float16, torch.bfloat16)  # in fp32 products are so dear that visits cost nothing beside them
SAMPLE = 4  # pairs at most that are sorted to see whether it pays
VISIT = 256.0  # tokens whose attention takes as long as loading and storing a query and its state


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Tiles of n pairs of batch item and head. W words hold one bit per context."""

    order: Tensor  # (n, Lq) int32: queries, sorted within every group of equal rules
    unions: Tensor  # (n, T, W) int32: contexts that some query of the tile chose


def overlap(inputs: Inputs, plan: DensePlan, first: int, last: int, rows: int) -> Overlap | None:
    """How pairs first … last − 1 go over short contexts in tiles of `rows` queries; None: by lists."""
    words = inputs.words(first, last)
    if words is None or not _pays(inputs, plan, rows):
        return None
    return _tiles(words, inputs.selection.layout, plan, rows)[0]


def _pays(inputs: Inputs, plan: DensePlan, rows: int) -> bool:
    """Whether tiles of `rows` queries do, judged once by some pairs."""
    selection = inputs.selection
    mean = mean_candidate(selection.layout, selection.first_query_context, selection.routing)
    if inputs.q.dtype not in DTYPES or mean > LONGEST:
        return False
    key = ("sharing pays", rows)
    if key not in selection.kept:
        assert selection.words is not None
        pairs = selection.words.flatten(0, 1)
        some = pairs[:: triton.cdiv(len(pairs), SAMPLE)].contiguous()
        selection.kept[key] = sharing_pays(*_tiles(some, selection.layout, plan, rows)[1:], mean)
    return bool(selection.kept[key])


def _tiles(words: Tensor, layout: ContextLayout, plan: DensePlan, rows: int) -> tuple[Overlap, float, float]:
    """Sort and unite queries; (query, key) pairs that the tiles go over; those that were chosen."""
    pairs, length, width = words.shape
    order = sorted_queries(words, plan.query_tiles, rows)
    count = len(plan.query_tiles)
    unions = torch.empty(pairs, count, width, dtype=torch.int32, device=words.device)
    work = torch.empty(pairs, count, width, 2, dtype=torch.float32, device=words.device)
    offsets = context_offsets(layout, words.device)
    union_kernel[(count, width, pairs)](
        words, order, plan.query_tiles, offsets, unions, work, length, layout.count, count, width, BM=rows
    )
    done, wanted = work.sum(dim=(0, 1, 2), dtype=torch.float64).tolist()
    return Overlap(order=order, unions=unions), done, wanted


def sharing_pays(done: float, wanted: float, mean: float) -> bool:
    """Whether tiles go over so few pairs in vain that saving all visits makes up for it.

    Of (query, key) pairs `done` are gone over and `wanted` were chosen; wanted / mean visits are saved.
    """
    return done <= wanted * (1 + VISIT / mean)


@lru_cache(maxsize=16)
def mean_candidate(layout: ContextLayout, first: int, routing: Routing) -> float:
    """Mean length of the contexts that some query may be routed to."""
    some = candidate_table(layout, first, routing).any(dim=0)  # (C,)
    lengths = torch.tensor(layout.lengths, dtype=torch.float64)[some]
    return float(lengths.mean()) if len(lengths) else 0.0


def sorted_queries(words: Tensor, tiles: Tensor, rows: int) -> Tensor:
    """Queries of every group by their bits, the highest context first; equal ones as they come.

    One sort per word, the last one decides. words (n, Lq, W), tiles (T, 3) of `rows` queries → (n, Lq) int32.
    """
    sizes = (tiles[:, 1] - tiles[:, 0]).clamp(max=rows)
    groups = torch.repeat_interleave(tiles[:, 2].long(), sizes, output_size=words.shape[1])  # (Lq,)
    order = None
    for word in range(words.shape[2]):
        keys = words[:, :, word].long() & 0xFFFFFFFF
        if word == words.shape[2] - 1:
            keys |= groups << 32
        if order is not None:
            keys = keys.gather(1, order)
        step = keys.argsort(dim=1, stable=True)
        order = step if order is None else order.gather(1, step)
    assert order is not None
    return order.to(torch.int32)


@triton.jit(do_not_specialize=["contexts", "length", "count"])
def union_kernel(
    words: tl.tensor,  # (n, Lq, W) int32
    order: tl.tensor,  # (n, Lq) int32
    tiles: tl.tensor,  # (T, 3) int32
    offsets: tl.tensor,  # (C + 1,) int32
    unions: tl.tensor,  # (n, T, W) int32
    work: tl.tensor,  # (n, T, W, 2) fp32: pairs that the tile goes over, pairs that were chosen
    length: tl.tensor,
    contexts: tl.tensor,
    count: tl.tensor,  # T
    width: tl.tensor,  # W
    BM: tl.constexpr,
) -> None:
    """Which of 32 contexts some query of one tile chose."""
    tile, word, pair = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start, stop, _ = load_tile(tiles, tile)
    at = start + tl.arange(0, BM)
    rows = tl.load(order + pair * length + at, mask=at < stop, other=0)
    context, hits = hits_of(words, pair * length + rows, at < stop, word, width)
    visitors = tl.sum(hits, axis=1)  # (32,)
    begin = tl.load(offsets + context, mask=context < contexts, other=0)
    tokens = (tl.load(offsets + context + 1, mask=context < contexts, other=0) - begin).to(tl.float32)
    some = visitors > 0
    to = (pair * count + tile) * width + word
    tl.store(unions + to, tl.sum(some.to(tl.int32) << tl.arange(0, 32), axis=0))
    tl.store(work + 2 * to, tl.sum(tl.where(some, tokens, 0.0), axis=0) * BM)
    tl.store(work + 2 * to + 1, tl.sum(tokens * visitors.to(tl.float32), axis=0))
