"""Forward: a softmax per query that is begun over the anchors and continued over routed contexts.

A row's state is its running maximum `peak`, its sum `total` and its unnormalised output `acc`, all fp32. The
dense pass leaves it in memory; each routed context gathers the queries that chose it, goes on where they
stopped, and puts them back. A query occurs once at most in the list of a context and contexts follow each
other in separate launches, so nothing is written twice at a time: no atomics, one order of sums. The running
maximum makes every merge safe from overflow.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.descriptors import context_offsets
from mocgen_kernels._triton.lists import pair_blocks, query_lists
from mocgen_kernels._triton.query_major import attend_in_registers
from mocgen_kernels._triton.rows import keys_of, load_rows, load_tile, packed_base, pair_base, store_rows
from mocgen_kernels._triton.saved import Inputs
from mocgen_kernels._triton.spans import continue_softmax, empty_state, softmax_over_spans
from mocgen_kernels._triton.summaries import softmax_over_summaries, summary_of
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling

FINISH_ROWS = 64


def attend(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D), contiguous, and the rows' log₂-sum-exp₂ (B · H, Lq) fp32."""
    q = inputs.q
    batch, length, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(batch * heads, length, dtype=torch.float32, device=q.device)
    for first, last in pair_blocks(inputs):
        if attend_in_registers(inputs, first, last, out, lse):
            continue
        pairs = last - first
        peak, total = (torch.empty(pairs, length, dtype=torch.float32, device=q.device) for _ in range(2))
        acc = torch.empty(pairs, length, dim, dtype=torch.float32, device=q.device)
        _accumulate(inputs, (peak, total, acc), first, last)
        finish_kernel[(triton.cdiv(length, FINISH_ROWS), pairs)](
            peak, total, acc, out, lse, first, heads, length, D=dim, DP=padded_dim(dim), BM=FINISH_ROWS
        )
    return out, lse


def _accumulate(inputs: Inputs, state: tuple[Tensor, ...], first: int, last: int) -> None:
    """Fill the state of pairs first … last − 1: peak, total and acc."""
    q, layout = inputs.q, inputs.selection.layout
    _, length, heads, dim = q.shape
    tile = tiling("forward", q.dtype, dim)
    plan, words = inputs.plan(tile), inputs.words(first, last)
    tensors = (q, inputs.k, inputs.v, *state)
    sizes = (first, heads, length, LOG2E / math.sqrt(dim), *inputs.strides)
    constants = (dim, padded_dim(dim), tile.rows, tile.keys)
    tables = (plan.query_tiles, plan.spans_of, plan.spans, *inputs.summaries(plan, first, last))
    dense_kernel[(len(plan.query_tiles), last - first)](
        *(*tensors, *tables, *sizes, inputs.k_means is not None, words is not None, *constants),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    if words is None:
        return
    lists = query_lists(words, layout.count)
    offsets = context_offsets(layout, q.device)
    for context, most in enumerate(lists.most):
        if most > 0:
            where = (lists.queries, lists.begins, offsets, context, layout.count)
            routed_kernel[(triton.cdiv(most, tile.rows), last - first)](
                *(*tensors, *where, *sizes, *constants), num_warps=tile.warps, num_stages=tile.stages
            )


@triton.jit(do_not_specialize=["contexts", "first", "heads", "length"])
def dense_kernel(
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    peak: tl.tensor,  # (n, Lq) fp32
    total: tl.tensor,  # (n, Lq) fp32
    acc: tl.tensor,  # (n, Lq, D) fp32
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
    """Begin the softmax of BM neighbouring queries over the key spans of their group, and what they skip."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop, group = load_tile(tiles, tile)
    rows = start + tl.arange(0, BM)
    inside = rows < stop
    pair, at = first + local, local * length + rows
    queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
    kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
    state = empty_state(BM, DP)
    state = softmax_over_spans(state, queries, kv, (spans_of, spans, group), inside, scale, D, DP, BN)
    if SKIPS:
        summary = summary_of(k_means, v_means, skips, logs, words, contexts, group, pair, heads, at, D)
        state = softmax_over_summaries(state, queries, summary, inside, scale, ROUTED, D, DP, BN)
    tl.store(peak + at, state[0], mask=inside)
    tl.store(total + at, state[1], mask=inside)
    store_rows(acc + local * length * D, rows, D, inside, state[2], D, DP)


@triton.jit(do_not_specialize=["first", "context", "contexts", "heads", "length"])
def routed_kernel(
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    peak: tl.tensor,  # (n, Lq) fp32
    total: tl.tensor,  # (n, Lq) fp32
    acc: tl.tensor,  # (n, Lq, D) fp32
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
    """Continue the softmax of BM queries that chose one context over its keys."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    slot = begins + local * contexts + context
    at = tl.load(slot) + tile * BM + tl.arange(0, BM)
    stop = tl.load(slot + 1)
    if tl.load(slot) + tile * BM < stop:
        inside = at < stop
        rows = tl.load(lists + at, mask=inside, other=0)
        pair = first + local
        queries = load_rows(pair_base(q, pair, heads, q_batch, q_head), rows, q_row, inside, D, DP)
        kv = keys_of(k, k_batch, k_row, k_head, v, v_batch, v_row, v_head, pair, heads)
        peak_at, total_at = peak + local * length + rows, total + local * length + rows
        seen_peak = tl.load(peak_at, mask=inside, other=0.0)
        seen_total = tl.load(total_at, mask=inside, other=0.0)
        state = (seen_peak, seen_total, load_rows(acc + local * length * D, rows, D, inside, D, DP))
        begin, end = tl.load(offsets + context), tl.load(offsets + context + 1)
        state = continue_softmax(state, queries, kv, begin, end, inside, scale, D, DP, BN, False)
        tl.store(peak_at, state[0], mask=inside)
        tl.store(total_at, state[1], mask=inside)
        store_rows(acc + local * length * D, rows, D, inside, state[2], D, DP)


@triton.jit(do_not_specialize=["first", "heads", "length"])
def finish_kernel(
    peak: tl.tensor,  # (n, Lq) fp32
    total: tl.tensor,  # (n, Lq) fp32
    acc: tl.tensor,  # (n, Lq, D) fp32
    out: tl.tensor,  # (B, Lq, H, D), contiguous
    lse: tl.tensor,  # (B · H, Lq) fp32
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
) -> None:
    """Normalise BM rows: out = acc / total, lse = peak + log₂ total."""
    rows, local = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1).to(tl.int64)
    inside, pair = rows < length, first + local
    seen_peak = tl.load(peak + local * length + rows, mask=inside, other=0.0)
    seen_total = tl.load(total + local * length + rows, mask=inside, other=1.0)
    seen = load_rows(acc + local * length * D, rows, D, inside, D, DP)
    base = packed_base(out, pair, heads, length, D)
    store_rows(base, rows, heads * D, inside, seen / seen_total[:, None], D, DP)
    tl.store(lse + pair * length + rows, seen_peak + tl.log2(seen_total), mask=inside)
