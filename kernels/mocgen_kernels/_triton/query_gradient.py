"""Gradient of the queries: begun over the dense spans, continued context by context, as the forward pass."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.descriptors import context_offsets
from mocgen_kernels._triton.forward import FINISH_ROWS
from mocgen_kernels._triton.lists import QueryLists
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
from mocgen_kernels._triton.spans import add_query_gradient, gradient_over_spans
from mocgen_kernels._triton.summaries import gradient_over_summaries, summary_of
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling


def query_gradients(saved: Saved, lists: QueryLists | None, first: int, last: int, dq: Tensor) -> None:
    """Write `saved.delta` and dq (B, Lq, H, D), contiguous, for pairs first … last − 1."""
    inputs, pairs = saved.inputs, last - first
    q, layout = inputs.q, inputs.selection.layout
    _, length, heads, dim = q.shape
    tile = tiling("query-gradient", q.dtype, dim)
    plan = inputs.plan(tile)
    sums = torch.empty(pairs, length, dim, dtype=torch.float32, device=q.device)
    tensors = (saved.grad, q, inputs.k, inputs.v, saved.lse, saved.delta, sums)
    sizes = (first, heads, length, LOG2E / math.sqrt(dim), *inputs.strides)
    constants = (dim, padded_dim(dim), tile.rows, tile.keys)
    tables = (plan.query_tiles, plan.spans_of, plan.spans, *inputs.summaries(plan, first, last))
    flags = (inputs.k_means is not None, lists is not None)
    dense_query_gradient_kernel[(len(plan.query_tiles), pairs)](
        *(*tensors, saved.out, *tables, *sizes, *flags, *constants),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    if lists is not None:
        offsets = context_offsets(layout, q.device)
        for context, most in enumerate(lists.most):
            if most > 0:
                where = (lists.queries, lists.begins, offsets, context, layout.count)
                routed_query_gradient_kernel[(triton.cdiv(most, tile.rows), pairs)](
                    *(*tensors, *where, *sizes, *constants), num_warps=tile.warps, num_stages=tile.stages
                )
    finish_gradient_kernel[(triton.cdiv(length, FINISH_ROWS), pairs)](
        sums, dq, first, heads, length, 1 / math.sqrt(dim), D=dim, DP=padded_dim(dim), BM=FINISH_ROWS
    )


@triton.jit(do_not_specialize=["contexts", "first", "heads", "length"])
def dense_query_gradient_kernel(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    lse: tl.tensor,  # (B · H, Lq) fp32
    delta: tl.tensor,  # (B · H, Lq) fp32
    sums: tl.tensor,  # (n, Lq, D) fp32
    out: tl.tensor,  # (B, Lq, H, D), contiguous
    tiles: tl.tensor,  # (T, 3) int32
    spans_of: tl.tensor,  # (G + 1,) int32
    spans: tl.tensor,  # (S, 2) int32
    k_means: tl.tensor,  # (B, C, H, D), contiguous; from here to contexts: read if SKIPS
    v_means: tl.tensor,  # (B, C, H, D), contiguous
    skips: tl.tensor,  # (G, C) uint8
    logs: tl.tensor,  # (C,) fp32
    words: tl.tensor,  # (n, Lq, W) int32, read if ROUTED
    contexts: tl.tensor,
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
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
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
) -> None:
    """Write delta of BM neighbouring queries; begin the sums of their gradient over spans and summaries."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop, group = load_tile(tiles, tile)
    rows = start + tl.arange(0, BM)
    inside = rows < stop
    pair = first + local
    grads, row_lse, row_delta = load_output(grad, out, lse, delta, pair, heads, length, rows, inside, D, DP)
    queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
    kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
    known = (queries, grads, row_lse, row_delta)
    seen = tl.zeros((BM, DP), tl.float32)
    seen = gradient_over_spans(seen, known, kv, (spans_of, spans, group), inside, scale, D, DP, BN)
    if SKIPS:
        at = local * length + rows
        summary = summary_of(k_means, v_means, skips, logs, words, contexts, group, pair, heads, at, D)
        seen = gradient_over_summaries(seen, known, summary, inside, scale, ROUTED, D, DP, BN)
    store_rows(sums + local * length * D, rows, D, inside, seen, D, DP)


@triton.jit(do_not_specialize=["first", "context", "contexts", "heads", "length"])
def routed_query_gradient_kernel(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    lse: tl.tensor,  # (B · H, Lq) fp32
    delta: tl.tensor,  # (B · H, Lq) fp32
    sums: tl.tensor,  # (n, Lq, D) fp32
    lists: tl.tensor,  # (entries,) int32
    begins: tl.tensor,  # (n · C + 1,) int64
    offsets: tl.tensor,  # (C + 1,) int32
    context: tl.tensor,
    contexts: tl.tensor,
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
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
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
) -> None:
    """Continue the gradient of BM queries that chose one context over its keys."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    slot = begins + local * contexts + context
    at = tl.load(slot) + tile * BM + tl.arange(0, BM)
    stop = tl.load(slot + 1)
    if tl.load(slot) + tile * BM < stop:
        inside = at < stop
        rows = tl.load(lists + at, mask=inside, other=0)
        pair = first + local
        grads = load_rows(packed_base(grad, pair, heads, length, D), rows, heads * D, inside, D, DP)
        row_lse = tl.load(lse + pair * length + rows, mask=inside, other=0.0)
        row_delta = tl.load(delta + pair * length + rows, mask=inside, other=0.0)
        queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
        kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
        seen = load_rows(sums + local * length * D, rows, D, inside, D, DP)
        begin, end = tl.load(offsets + context), tl.load(offsets + context + 1)
        known = (queries, grads, row_lse, row_delta)
        seen = add_query_gradient(seen, known, kv, begin, end, inside, scale, D, DP, BN, False)
        store_rows(sums + local * length * D, rows, D, inside, seen, D, DP)


@triton.jit(do_not_specialize=["first", "heads", "length"])
def finish_gradient_kernel(
    sums: tl.tensor,  # (n, Lq, D) fp32
    dq: tl.tensor,  # (B, Lq, H, D), contiguous
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
    factor: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
) -> None:
    """Scale and cast BM rows."""
    rows, local = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1).to(tl.int64)
    inside, pair = rows < length, first + local
    seen = load_rows(sums + local * length * D, rows, D, inside, D, DP)
    base = packed_base(dq, pair, heads, length, D)
    store_rows(base, rows, heads * D, inside, seen * factor, D, DP)
