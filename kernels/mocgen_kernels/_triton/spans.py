"""Device loops of a tile of queries over keys: the softmax, and the gradient of the queries.

`state` is (peak, total, acc): (BM,), (BM,) and (BM, DP). `tile` is what a gradient needs of BM queries:
(queries, grads, lse, delta), two of (BM, DP) and two of (BM,). `kv` is (k_base, k_row, v_base, v_row): the
addresses of token 0 of a head and the strides of tokens. `spans` is (spans_of, spans, group).
"""

from __future__ import annotations

import triton
import triton.language as tl

from mocgen_kernels._triton.rows import fresh, load_rows


@triton.jit
def empty_state(BM: tl.constexpr, DP: tl.constexpr) -> tl.tuple:
    """The state of a softmax over nothing."""
    peak = tl.full((BM,), float("-inf"), tl.float32)
    return peak, tl.zeros((BM,), tl.float32), tl.zeros((BM, DP), tl.float32)


@triton.jit
def softmax_step(
    state: tl.tuple,
    logits: tl.tensor,  # (BM, BN), base 2; −inf where unseen
    kv: tl.tuple,
    rows: tl.tensor,  # (BN,)
    inside: tl.tensor,  # (BN,)
    D: tl.constexpr,
    DP: tl.constexpr,
) -> tl.tuple:
    """Go on with the softmax over BN keys, whose values are loaded late, since registers are few."""
    peak, total, acc = state
    _, _, v_base, v_row = kv
    new_peak = tl.maximum(peak, tl.max(logits, axis=1))
    weights = tl.exp2(logits - new_peak[:, None])
    shrink = tl.exp2(peak - new_peak)
    total = total * shrink + tl.sum(weights, axis=1)
    values = load_rows(v_base, rows, v_row, inside, D, DP)  # (BN, DP)
    acc = tl.dot(weights.to(values.dtype), values, acc * shrink[:, None], input_precision="ieee")
    return new_peak, total, acc


@triton.jit
def gradient_step(
    sums: tl.tensor,  # (BM, DP)
    tile: tl.tuple,
    logits: tl.tensor,  # (BM, BN), base 2; −inf where unseen
    keys: tl.tensor,  # (BN, DP)
    values: tl.tensor,  # (BN, DP)
    still: tl.tensor,  # see `fresh`
) -> tl.tensor:
    """Add what BN keys contribute to the gradient of BM queries."""
    _, grads, lse, delta = tile
    weights = tl.exp2(logits - lse[:, None])
    slopes = tl.dot(fresh(grads, still), tl.trans(values), input_precision="ieee")
    slopes = weights * (slopes - delta[:, None])  # (BM, BN)
    return tl.dot(slopes.to(keys.dtype), keys, sums, input_precision="ieee")


@triton.jit
def continue_softmax(
    state: tl.tuple,
    queries: tl.tensor,  # (BM, DP)
    kv: tl.tuple,
    begin: tl.tensor,
    end: tl.tensor,
    picked: tl.tensor,  # (BM,) bool, read if MASKED
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
    MASKED: tl.constexpr,
) -> tl.tuple:
    """Go on with the softmax of BM queries, or of those picked, over keys begin … end − 1."""
    k_base, k_row, _, _ = kv
    for start in range(begin, end, BN):
        rows = start + tl.arange(0, BN)
        inside = rows < end
        keys = load_rows(k_base, rows, k_row, inside, D, DP)  # (BN, DP)
        turn = fresh(queries, start < end)
        logits = tl.dot(turn, tl.trans(keys), input_precision="ieee") * scale  # (BM, BN), base 2
        logits = tl.where(inside[None, :], logits, float("-inf"))
        if MASKED:
            logits = tl.where(picked[:, None], logits, float("-inf"))
        state = softmax_step(state, logits, kv, rows, inside, D, DP)
    return state


@triton.jit
def add_query_gradient(
    sums: tl.tensor,  # (BM, DP)
    tile: tl.tuple,
    kv: tl.tuple,
    begin: tl.tensor,
    end: tl.tensor,
    picked: tl.tensor,  # (BM,) bool, read if MASKED
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
    MASKED: tl.constexpr,
) -> tl.tensor:
    """Add what keys begin … end − 1 contribute to the gradient of BM queries, or of those picked."""
    k_base, k_row, v_base, v_row = kv
    queries, _, _, _ = tile
    for start in range(begin, end, BN):
        rows = start + tl.arange(0, BN)
        inside = rows < end
        keys = load_rows(k_base, rows, k_row, inside, D, DP)  # (BN, DP)
        values = load_rows(v_base, rows, v_row, inside, D, DP)  # (BN, DP)
        logits = tl.dot(fresh(queries, start < end), tl.trans(keys), input_precision="ieee") * scale
        logits = tl.where(inside[None, :], logits, float("-inf"))
        if MASKED:
            logits = tl.where(picked[:, None], logits, float("-inf"))
        sums = gradient_step(sums, tile, logits, keys, values, start < end)
    return sums


@triton.jit
def softmax_over_spans(
    state: tl.tuple,
    queries: tl.tensor,  # (BM, DP)
    kv: tl.tuple,
    spans: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tuple:
    """Go on over the key spans of a group of queries."""
    spans_of, bounds, group = spans
    for span in range(tl.load(spans_of + group), tl.load(spans_of + group + 1)):
        begin, end = tl.load(bounds + 2 * span), tl.load(bounds + 2 * span + 1)
        state = continue_softmax(state, queries, kv, begin, end, inside, scale, D, DP, BN, False)
    return state


@triton.jit
def gradient_over_spans(
    sums: tl.tensor,  # (BM, DP)
    tile: tl.tuple,
    kv: tl.tuple,
    spans: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tensor:
    """Add what the key spans of a group of queries contribute to their gradient."""
    spans_of, bounds, group = spans
    for span in range(tl.load(spans_of + group), tl.load(spans_of + group + 1)):
        begin, end = tl.load(bounds + 2 * span), tl.load(bounds + 2 * span + 1)
        sums = add_query_gradient(sums, tile, kv, begin, end, inside, scale, D, DP, BN, False)
    return sums
