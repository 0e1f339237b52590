"""Gradients of keys and values, key-major: every program owns some keys of one context in one head.

It goes through all queries that see them, the dense ranges and the list of those routed here, and writes the
sums once.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.lists import QueryLists
from mocgen_kernels._triton.rows import load_rows, load_tile, packed_base, pair_base, store_rows
from mocgen_kernels._triton.saved import Saved
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling


def key_gradients(
    saved: Saved, lists: QueryLists | None, first: int, last: int, dk: Tensor, dv: Tensor
) -> None:
    """Write dk and dv (B, L, H, D), contiguous, for pairs first … last − 1. `saved.delta` must be there."""
    inputs = saved.inputs
    q, layout = inputs.q, inputs.selection.layout
    _, length, heads, dim = q.shape
    tile = tiling("key-gradient", q.dtype, dim)
    plan = inputs.plan(tile)
    key_gradient_kernel[(len(plan.key_tiles), last - first)](
        saved.grad,
        q,
        inputs.k,
        inputs.v,
        saved.lse,
        saved.delta,
        dk,
        dv,
        plan.key_tiles,
        plan.ranges_of,
        plan.ranges,
        lists.queries if lists else plan.ranges,  # not read where there are no lists
        lists.begins if lists else plan.ranges,
        layout.count,
        first,
        heads,
        length,
        layout.length,
        LOG2E / math.sqrt(dim),
        1 / math.sqrt(dim),
        *inputs.strides,
        ROUTED=lists is not None,
        D=dim,
        DP=padded_dim(dim),
        BM=tile.rows,
        BN=tile.keys,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


@triton.jit
def add_key_gradients(
    dk: tl.tensor,  # (BN, DP)
    dv: tl.tensor,  # (BN, DP)
    keys: tl.tensor,  # (BN, DP)
    values: tl.tensor,  # (BN, DP)
    rows: tl.tensor,  # (BM,) queries
    inside: tl.tensor,  # (BM,)
    q_base: tl.tensor,
    grad_base: tl.tensor,
    lse_base: tl.tensor,
    delta_base: tl.tensor,
    q_row: tl.tensor,
    grad_row: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,  # (BN, BM), read if BIASED: added to logits; −inf where unseen
    D: tl.constexpr,
    DP: tl.constexpr,
    BIASED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Add what BM queries contribute to the gradients of BN keys and values."""
    queries = load_rows(q_base, rows, q_row, inside, D, DP)  # (BM, DP)
    grads = load_rows(grad_base, rows, grad_row, inside, D, DP)  # (BM, DP)
    lse = tl.load(lse_base + rows, mask=inside, other=float("inf"))  # no weight where not inside
    delta = tl.load(delta_base + rows, mask=inside, other=0.0)
    logits = tl.dot(keys, tl.trans(queries), input_precision="ieee") * scale  # (BN, BM), base 2
    if BIASED:
        logits += bias
    weights = tl.exp2(logits - lse[None, :])
    dv = tl.dot(weights.to(grads.dtype), grads, dv, input_precision="ieee")
    slopes = weights * (tl.dot(values, tl.trans(grads), input_precision="ieee") - delta[None, :])
    dk = tl.dot(slopes.to(queries.dtype), queries, dk, input_precision="ieee")
    return dk, dv


@triton.jit(do_not_specialize=["first", "contexts", "heads", "length", "key_length"])
def key_gradient_kernel(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    q: tl.tensor,  # (B, Lq, H, D)
    k: tl.tensor,  # (B, L, H, D)
    v: tl.tensor,  # (B, L, H, D)
    lse: tl.tensor,  # (B · H, Lq) fp32
    delta: tl.tensor,  # (B · H, Lq) fp32
    dk: tl.tensor,  # (B, L, H, D), contiguous
    dv: tl.tensor,  # (B, L, H, D), contiguous
    tiles: tl.tensor,  # (K, 3) int32
    ranges_of: tl.tensor,  # (C + 1,) int32
    ranges: tl.tensor,  # (R, 2) int32
    lists: tl.tensor,  # (entries,) int32
    begins: tl.tensor,  # (n · C + 1,) int64
    contexts: tl.tensor,
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
    key_length: tl.tensor,  # L
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
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
) -> None:
    """Gradients of BN keys and values of one context, from every query that sees the context."""
    tile, local = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start, stop, context = load_tile(tiles, tile)
    own = start + tl.arange(0, BN)
    pair = first + local
    keys = load_rows(pair_base(k, pair, heads, k_batch, k_head), own, k_row, own < stop, D, DP)
    values = load_rows(pair_base(v, pair, heads, v_batch, v_head), own, v_row, own < stop, D, DP)
    q_base = pair_base(q, pair, heads, q_batch, q_head)
    grad_base = packed_base(grad, pair, heads, length, D)
    lse_base, delta_base = lse + pair * length, delta + pair * length
    sums_k = tl.zeros((BN, DP), tl.float32)
    sums_v = tl.zeros((BN, DP), tl.float32)
    for at in range(tl.load(ranges_of + context), tl.load(ranges_of + context + 1)):
        begin, end = tl.load(ranges + 2 * at), tl.load(ranges + 2 * at + 1)
        for row in range(begin, end, BM):
            rows = row + tl.arange(0, BM)
            inside = rows < end
            sums_k, sums_v = add_key_gradients(
                sums_k, sums_v, keys, values, rows, inside, q_base, grad_base, lse_base, delta_base, q_row,
                heads * D, scale, scale, D, DP, False,
            )  # fmt: skip
    if ROUTED:
        slot = begins + local * contexts + context
        entry_end = tl.load(slot + 1)
        for entry in range(tl.load(slot), entry_end, BM):
            entries = entry + tl.arange(0, BM)
            rows = tl.load(lists + entries, mask=entries < entry_end, other=0)
            inside = entries < entry_end
            sums_k, sums_v = add_key_gradients(
                sums_k, sums_v, keys, values, rows, inside, q_base, grad_base, lse_base, delta_base, q_row,
                heads * D, scale, scale, D, DP, False,
            )  # fmt: skip
    dk_base = packed_base(dk, pair, heads, key_length, D)
    dv_base = packed_base(dv, pair, heads, key_length, D)
    store_rows(dk_base, own, heads * D, own < stop, sums_k * factor, D, DP)
    store_rows(dv_base, own, heads * D, own < stop, sums_v, D, DP)
