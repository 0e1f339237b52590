"""Scores, mask and top-k in one kernel: only the chosen bits leave the chip.

The k-th largest score of a row is found by bisection: floats, taken as integers in the right way, keep their
order, so 32 halvings of the integer range end at the exact value, whatever k is. Of the candidates that
equal it, those of lowest index fill the budget. The last context that a share of the softmax needs is found
in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels import router
from mocgen_kernels._triton.descriptors import pool_descriptors
from mocgen_kernels._triton.device import device_of
from mocgen_kernels._triton.rows import load_tile, pair_base
from mocgen_kernels._triton.tiling import LOG2E, MAX_DIM, padded_dim
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import Routing, query_groups, static_table
from mocgen_kernels.selection import Selection, words_for

MAX_CONTEXTS = 1024  # scores of some queries must fit into the registers
_SHAPES = {  # contexts: queries and warps; with top-p; with several descriptors. No register is spilled
    32: ((64, 8), (32, 8), (32, 4)),
    64: ((64, 4), (32, 4), (32, 4)),
    128: ((64, 8), (32, 8), (32, 16)),
    256: ((64, 8), (16, 16), (8, 8)),
    512: ((32, 8), (8, 16), (4, 8)),
    1024: ((8, 8), (4, 16), (2, 8)),
}
LOWEST = tl.constexpr(-2147483648)  # the key of what may not be chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rules:
    """Who may be routed to, for every tile of queries. On the device."""

    tiles: Tensor  # (T, 3) int32: first query, one past the last query of its group, group
    candidates: Tensor  # (G, C) uint8


def route_by(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    routing: Routing,
    generator: torch.Generator | int | None,
    means: Tensor | None,
) -> Selection:
    """As `reference.route_by`; what the kernels do not cover is chosen in chunks, on the same device."""
    batch, length, heads, dim = q.shape
    static = static_table(layout, layout.first_query_context(length), routing) is not None
    if static or routing.policy != "moc" or dim > MAX_DIM:
        return router.route_by(q, k, layout, routing, generator, means)
    if routing.perturbs or layout.count > MAX_CONTEXTS:
        return router.route_by(q, k, layout, routing, generator, means)
    if means is None:
        if k is None:
            raise ValueError("route needs keys or descriptors")
        with device_of(q):
            means = pool_descriptors(k, layout, sub_descriptors=routing.sub_descriptors)
    with device_of(q):
        words = choose(q, means, layout, routing)
    return Selection(
        layout=layout, routing=routing, batch=batch, heads=heads, query_length=length, words=words
    )


def choose(q: Tensor, means: Tensor, layout: ContextLayout, routing: Routing) -> Tensor:
    """Bits of the chosen contexts: q (B, Lq, H, D), means (B, C · r, H, D) → (B, H, Lq, W) int32.

    Policy "moc" without drop-off and drop-in, for at most MAX_CONTEXTS contexts.
    """
    batch, length, heads, dim = q.shape
    q = q.detach() if q.stride(-1) == 1 else q.detach().contiguous()
    means = means.detach().float()
    means = means if means.stride(-1) == 1 else means.contiguous()
    padded = max(32, triton.next_power_of_2(layout.count))
    block, warps = shape_of(padded, several=routing.sub_descriptors > 1, nucleus=routing.top_p < 1)
    first = layout.first_query_context(length)
    rules = _rules(layout, first, routing, block, q.device)
    words = torch.empty(batch, heads, length, words_for(layout.count), dtype=torch.int32, device=q.device)
    choose_kernel[(len(rules.tiles) * batch * heads,)](
        q,
        means,
        words,
        rules.tiles,
        rules.candidates,
        len(rules.tiles),
        length,
        heads,
        layout.count,
        routing.sub_descriptors,
        routing.top_k,
        routing.top_p,
        LOG2E / math.sqrt(dim),
        *q.stride()[:3],
        *means.stride()[:3],
        SEVERAL=routing.sub_descriptors > 1,
        NUCLEUS=routing.top_p < 1,
        D=dim,
        DP=padded_dim(dim),
        BM=block,
        CP=padded,
        num_warps=warps,
    )
    return words


def shape_of(padded: int, *, several: bool, nucleus: bool) -> tuple[int, int]:
    """Queries and warps of a program, for a power of two of contexts."""
    return _SHAPES[padded][2 if several else int(nucleus)]


@lru_cache(maxsize=16)
def _rules(
    layout: ContextLayout,
    first: int,
    routing: Routing,
    block: int,
    device: torch.device,
) -> _Rules:
    groups = query_groups(layout, first, routing)
    tiles = [
        (start, group.stop, index)
        for index, group in enumerate(groups)
        for start in range(group.start, group.stop, block)
    ]
    candidates = torch.zeros(len(groups), layout.count, dtype=torch.uint8, device="cpu")
    for index, group in enumerate(groups):
        candidates[index, list(group.candidates)] = 1
    return _Rules(
        tiles=torch.tensor(tiles, dtype=torch.int32, device="cpu").to(device),
        candidates=candidates.to(device),
    )


@triton.jit
def _ordered(scores: tl.tensor) -> tl.tensor:
    """Integers in the order of the given fp32 numbers; −0 and 0 are equal."""
    bits = tl.where(scores == 0.0, 0.0, scores).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _products(
    q_base: tl.tensor,
    means_at: tl.tensor,  # (CP,) addresses of the descriptors
    q_row: tl.tensor,
    rows: tl.tensor,  # (BM,)
    context: tl.tensor,  # (CP,)
    contexts: tl.tensor,
    stop: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    CP: tl.constexpr,
) -> tl.tensor:
    """Products of BM queries and one descriptor of every context: (BM, CP)."""
    scores = tl.zeros((BM, CP), tl.float32)
    for first_column in range(0, DP, 16):  # 16 at a time: CP rows of means would not fit otherwise
        column = first_column + tl.arange(0, 16)
        q_at = rows.to(tl.int64)[:, None] * q_row + column[None, :]
        q_mask = (rows < stop)[:, None] & (column < D)[None, :]
        some_q = tl.load(q_base + q_at, mask=q_mask, other=0.0).to(tl.float32)  # (BM, 16)
        means_mask = (context < contexts)[None, :] & (column < D)[:, None]
        some_means = tl.load(means_at[None, :] + column[:, None], mask=means_mask, other=0.0)  # (16, CP)
        scores = tl.dot(some_q, some_means, scores, input_precision="ieee")
    return scores


@triton.jit
def _nucleus(keys: tl.tensor, top_p: tl.tensor, scale: tl.tensor, BM: tl.constexpr) -> tl.tensor:
    """The fewest of every row, in falling order, whose softmax sums up to top_p: (BM, CP) bool."""
    scores = (keys ^ ((keys >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    scores = tl.where(keys > LOWEST, scores, float("-inf"))
    peak = tl.maximum(tl.max(scores, axis=1), -3e38)  # finite without candidates, too
    mass = tl.where(keys > LOWEST, tl.exp2((scores - peak[:, None]) * scale), 0.0)
    wanted = top_p * tl.sum(mass, axis=1)
    low = tl.full((BM,), LOWEST, tl.int32)
    high = tl.full((BM,), 2147483647, tl.int32)
    for _ in range(32):  # the largest value whose keys and those above hold what is wanted
        middle = (low | high) - ((low ^ high) >> 1)
        enough = tl.sum(tl.where(keys >= middle[:, None], mass, 0.0), axis=1) >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    above = keys > low[:, None]
    missing = wanted - tl.sum(tl.where(above, mass, 0.0), axis=1)
    equal = tl.where(keys == low[:, None], mass, 0.0)
    return above | ((equal > 0) & (tl.cumsum(equal, axis=1) - equal < missing[:, None]))


@triton.jit(do_not_specialize=["contexts", "count", "heads", "length", "pieces", "top_k"])
def choose_kernel(
    q: tl.tensor,  # (B, Lq, H, D)
    means: tl.tensor,  # (B, C · r, H, D) fp32
    words: tl.tensor,  # (B, H, Lq, W) int32, contiguous
    tiles: tl.tensor,  # (T, 3) int32
    candidates: tl.tensor,  # (G, C) uint8
    count: tl.tensor,  # T
    length: tl.tensor,
    heads: tl.tensor,
    contexts: tl.tensor,
    pieces: tl.tensor,  # r
    top_k: tl.tensor,
    top_p: tl.tensor,
    scale: tl.tensor,  # of scores in the softmax, base 2
    q_batch: tl.tensor,
    q_row: tl.tensor,
    q_head: tl.tensor,
    means_batch: tl.tensor,
    means_row: tl.tensor,
    means_head: tl.tensor,
    SEVERAL: tl.constexpr,
    NUCLEUS: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    CP: tl.constexpr,
) -> None:
    """Top-k contexts of BM queries of one head, or the first of them that hold the share top_p."""
    tile, pair = tl.program_id(0) % count, tl.program_id(0) // count
    start, stop, group = load_tile(tiles, tile)
    rows = start + tl.arange(0, BM)
    context = tl.arange(0, CP)
    q_base = pair_base(q, pair, heads, q_batch, q_head)
    means_base = pair_base(means, pair, heads, means_batch, means_head)

    at = context.to(tl.int64) * pieces * means_row
    scores = _products(q_base, means_base + at, q_row, rows, context, contexts, stop, D, DP, BM, CP)
    if SEVERAL:
        for piece in range(1, pieces):
            some = means_base + (at + piece * means_row)
            more = _products(q_base, some, q_row, rows, context, contexts, stop, D, DP, BM, CP)
            scores = tl.maximum(scores, more)

    allowed = tl.load(candidates + group.to(tl.int64) * contexts + context, mask=context < contexts, other=0)
    keys = tl.where((allowed > 0)[None, :], _ordered(scores), LOWEST)  # (BM, CP)
    low = tl.full((BM,), LOWEST, tl.int32)
    high = tl.full((BM,), 2147483647, tl.int32)
    for _ in range(32):  # the largest value that at least top_k keys reach lies in low … high
        middle = (low | high) - ((low ^ high) >> 1)
        enough = tl.sum((keys >= middle[:, None]).to(tl.int32), axis=1) >= top_k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    above = keys > low[:, None]
    equal = ((keys == low[:, None]) & (keys > LOWEST)).to(tl.int32)
    free = top_k - tl.sum(above.to(tl.int32), axis=1)
    chosen = above | ((equal > 0) & (tl.cumsum(equal, axis=1) <= free[:, None]))
    if NUCLEUS:
        chosen = chosen & _nucleus(keys, top_p, scale, BM)

    lane = tl.arange(0, 32)
    bits = tl.reshape(chosen.to(tl.int32), (BM, CP // 32, 32)) << lane[None, None, :]
    packed = tl.sum(bits, axis=2)  # (BM, CP / 32)
    word, width = tl.arange(0, CP // 32), (contexts + 31) // 32
    at = (pair.to(tl.int64) * length + rows)[:, None] * width + word[None, :]
    tl.store(words + at, packed, mask=(rows < stop)[:, None] & (word < width)[None, :])
