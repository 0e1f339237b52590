"""Device loops of a tile of queries over a span of keys: the softmax, and the gradient of the queries."""

from __future__ import annotations

import triton
import triton.language as tl

from mocgen_kernels._triton.rows import fresh, load_rows


@triton.jit
def continue_softmax(
    peak: tl.tensor,  # (BM,)
    total: tl.tensor,  # (BM,)
    acc: tl.tensor,  # (BM, DP)
    queries: tl.tensor,  # (BM, DP)
    k_base: tl.tensor,
    v_base: tl.tensor,
    k_row: tl.tensor,
    v_row: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Go on with the softmax of BM queries over keys begin … end − 1."""
    for start in range(begin, end, BN):
        rows = start + tl.arange(0, BN)
        inside = rows < end
        keys = load_rows(k_base, rows, k_row, inside, D, DP)  # (BN, DP)
        turn = fresh(queries, start < end)
        logits = tl.dot(turn, tl.trans(keys), input_precision="ieee") * scale  # (BM, BN), base 2
        logits = tl.where(inside[None, :], logits, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(logits, axis=1))
        weights = tl.exp2(logits - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, axis=1)
        values = load_rows(v_base, rows, v_row, inside, D, DP)  # (BN, DP)
        acc = tl.dot(weights.to(values.dtype), values, acc * shrink[:, None], input_precision="ieee")
        peak = new_peak
    return peak, total, acc


@triton.jit
def add_query_gradient(
    sums: tl.tensor,  # (BM, DP)
    queries: tl.tensor,  # (BM, DP)
    grads: tl.tensor,  # (BM, DP)
    lse: tl.tensor,  # (BM,)
    delta: tl.tensor,  # (BM,)
    k_base: tl.tensor,
    v_base: tl.tensor,
    k_row: tl.tensor,
    v_row: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tensor:
    """Add what keys begin … end − 1 contribute to the gradient of BM queries."""
    for start in range(begin, end, BN):
        rows = start + tl.arange(0, BN)
        inside = rows < end
        keys = load_rows(k_base, rows, k_row, inside, D, DP)  # (BN, DP)
        values = load_rows(v_base, rows, v_row, inside, D, DP)  # (BN, DP)
        logits = tl.dot(fresh(queries, start < end), tl.trans(keys), input_precision="ieee") * scale
        weights = tl.where(inside[None, :], tl.exp2(logits - lse[:, None]), 0.0)
        slopes = tl.dot(fresh(grads, start < end), tl.trans(values), input_precision="ieee")
        slopes = weights * (slopes - delta[:, None])  # (BM, BN)
        sums = tl.dot(slopes.to(keys.dtype), keys, sums, input_precision="ieee")
    return sums
