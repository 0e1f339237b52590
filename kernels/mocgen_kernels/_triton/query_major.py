"""Forward over short contexts: every program keeps the state of its queries to the end and writes it once."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.descriptors import context_offsets
from mocgen_kernels._triton.overlap import overlap
from mocgen_kernels._triton.rows import keys_of, load_rows, load_tile, packed_base, pair_base, store_rows
from mocgen_kernels._triton.saved import Inputs
from mocgen_kernels._triton.spans import empty_state, softmax_over_spans
from mocgen_kernels._triton.summaries import softmax_over_summaries, summary_of
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling
from mocgen_kernels._triton.unions import softmax_over_union


def attend_in_registers(inputs: Inputs, first: int, last: int, out: Tensor, lse: Tensor) -> bool:
    """Write out and lse, base 2, of pairs first … last − 1 if that is the cheaper way; say whether it was."""
    q, layout = inputs.q, inputs.selection.layout
    _, length, heads, dim = q.shape
    tile = tiling("query-major", q.dtype, dim)
    plan = inputs.plan(tile)
    shared = overlap(inputs, plan, first, last, tile.rows)
    if shared is None:
        return False
    query_major_kernel[(len(plan.query_tiles), last - first)](
        *(q, inputs.k, inputs.v, out, lse, shared.order, shared.unions, context_offsets(layout, q.device)),
        *(plan.query_tiles, plan.spans_of, plan.spans, *inputs.summaries(plan, first, last)),
        *(first, heads, length, len(plan.query_tiles), LOG2E / math.sqrt(dim), *inputs.strides),
        SKIPS=inputs.k_means is not None,
        D=dim,
        DP=padded_dim(dim),
        BM=tile.rows,
        BN=tile.keys,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return True


@triton.jit(do_not_specialize=["contexts", "first", "heads", "length", "count"])
def query_major_kernel(
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    out: tl.tensor,  # (B, Lq, H, D), contiguous
    lse: tl.tensor,  # (B · H, Lq) fp32
    order: tl.tensor,  # (n, Lq) int32
    unions: tl.tensor,  # (n, T, W) int32
    offsets: tl.tensor,  # (C + 1,) int32
    tiles: tl.tensor,  # (T, 3) int32
    spans_of: tl.tensor,  # (G + 1,) int32
    spans: tl.tensor,  # (S, 2) int32
    k_means: tl.tensor,  # (B, C, H, D), contiguous, read if SKIPS
    v_means: tl.tensor,  # (B, C, H, D), contiguous, read if SKIPS
    skips: tl.tensor,  # (G, C) uint8, read if SKIPS
    logs: tl.tensor,  # (C,) fp32, read if SKIPS
    words: tl.tensor,  # (n, Lq, W) int32
    contexts: tl.tensor,
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
    count: tl.tensor,  # T
    scale: tl.tensor,
    q_batch: tl.tensor,
    q_row: tl.tensor,
    q_head: tl.tensor,
    k_batch: tl.tensor,
    k_row: tl.tensor,
    k_head: tl.tensor,
    v_batch: tl.tensor,
    v_row: tl.tensor,
    v_head: tl.tensor,
    SKIPS: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
) -> None:
    """Softmax of BM queries with equal rules over anchors, summaries and what each of them chose."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop, group = load_tile(tiles, tile)
    place = start + tl.arange(0, BM)
    inside = place < stop
    rows = tl.load(order + local * length + place, mask=inside, other=0)
    pair, width = first + local, (contexts + 31) // 32
    queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
    kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
    state = empty_state(BM, DP)
    state = softmax_over_spans(state, queries, kv, (spans_of, spans, group), inside, scale, D, DP, BN)
    at = local * length + rows
    if SKIPS:
        summary = summary_of(k_means, v_means, skips, logs, words, contexts, group, pair, heads, at, D)
        state = softmax_over_summaries(state, queries, summary, inside, scale, True, D, DP, BN)
    chosen = (unions + (local * count + tile) * width, words + at * width, offsets, width)
    state = softmax_over_union(state, queries, kv, chosen, inside, scale, D, DP, BN)
    peak, total, acc = state
    tl.store(lse + pair * length + rows, peak + tl.log2(total), mask=inside)
    base = packed_base(out, pair, heads, length, D)
    store_rows(base, rows, heads * D, inside, acc / total[:, None], D, DP)
