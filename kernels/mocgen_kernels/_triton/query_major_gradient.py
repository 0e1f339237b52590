"""Gradient of the queries over short contexts: kept in registers to the end, as in the forward pass."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.descriptors import context_offsets
from mocgen_kernels._triton.overlap import overlap
from mocgen_kernels._triton.rows import (
    keys_of,
    load_output,
    load_rows,
    load_tile,
    packed_base,
    pair_base,
    store_rows,
)
from mocgen_kernels._triton.saved import Saved
from mocgen_kernels._triton.spans import gradient_over_spans
from mocgen_kernels._triton.summaries import gradient_over_summaries, summary_of
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling
from mocgen_kernels._triton.unions import gradient_over_union


def gradients_in_registers(saved: Saved, first: int, last: int, dq: Tensor) -> bool:
    """Write `saved.delta` and dq of pairs first … last − 1 if that is the cheaper way; say whether it was."""
    inputs = saved.inputs
    q, layout = inputs.q, inputs.selection.layout
    _, length, heads, dim = q.shape
    tile = tiling("query-major", q.dtype, dim)
    plan = inputs.plan(tile)
    shared = overlap(inputs, plan, first, last, tile.rows)
    if shared is None:
        return False
    query_major_gradient_kernel[(len(plan.query_tiles), last - first)](
        *(saved.grad, q, inputs.k, inputs.v, saved.lse, saved.delta, dq, saved.out),
        *(shared.order, shared.unions, context_offsets(layout, q.device)),
        *(plan.query_tiles, plan.spans_of, plan.spans, *inputs.summaries(plan, first, last)),
        *(first, heads, length, len(plan.query_tiles), LOG2E / math.sqrt(dim), 1 / math.sqrt(dim)),
        *inputs.strides,
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
def query_major_gradient_kernel(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    lse: tl.tensor,  # (B · H, Lq) fp32
    delta: tl.tensor,  # (B · H, Lq) fp32
    dq: tl.tensor,  # (B, Lq, H, D), contiguous
    out: tl.tensor,  # (B, Lq, H, D), contiguous
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
    factor: tl.tensor,
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
    """Write delta and the gradient of BM queries with equal rules."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop, group = load_tile(tiles, tile)
    place = start + tl.arange(0, BM)
    inside = place < stop
    rows = tl.load(order + local * length + place, mask=inside, other=0)
    pair, width = first + local, (contexts + 31) // 32
    grads, row_lse, row_delta = load_output(grad, out, lse, delta, pair, heads, length, rows, inside, D, DP)
    queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
    kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
    known = (queries, grads, row_lse, row_delta)
    sums = tl.zeros((BM, DP), tl.float32)
    sums = gradient_over_spans(sums, known, kv, (spans_of, spans, group), inside, scale, D, DP, BN)
    at = local * length + rows
    if SKIPS:
        summary = summary_of(k_means, v_means, skips, logs, words, contexts, group, pair, heads, at, D)
        sums = gradient_over_summaries(sums, known, summary, inside, scale, True, D, DP, BN)
    chosen = (unions + (local * count + tile) * width, words + at * width, offsets, width)
    sums = gradient_over_union(sums, known, kv, chosen, inside, scale, D, DP, BN)
    store_rows(packed_base(dq, pair, heads, length, D), rows, heads * D, inside, sums * factor, D, DP)
