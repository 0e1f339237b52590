"""Device loops of a tile of queries over the summaries of the contexts that they skip.

A summary is the mean key and mean value of a context of n tokens, whose logit gains log₂ n. `summary` is
(kv, skips, logs, words, contexts): `kv` as in spans.py, with contexts for tokens; the row of `skips` (C,) of
the queries' group, 1 for contexts that are skipped unless routed to; log₂ n (C,); the addresses (BM,) of the
queries' words.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mocgen_kernels._triton.rows import fresh, load_rows, packed_base
from mocgen_kernels._triton.spans import gradient_step, softmax_step


@triton.jit
def summary_of(
    k_means: tl.tensor,  # (B, C, H, D), contiguous
    v_means: tl.tensor,  # (B, C, H, D), contiguous
    skips: tl.tensor,  # (G, C) uint8
    logs: tl.tensor,  # (C,) fp32
    words: tl.tensor,  # (n, Lq, W) int32
    contexts: tl.tensor,
    group: tl.tensor,
    pair: tl.tensor,
    heads: tl.tensor,
    at: tl.tensor,  # (BM,) rows of words
    D: tl.constexpr,
) -> tl.tuple:
    """What the loops below go over, for queries of one group and one head."""
    k_base = packed_base(k_means, pair, heads, contexts, D)
    v_base = packed_base(v_means, pair, heads, contexts, D)
    kv = (k_base, heads * D, v_base, heads * D)
    return kv, skips + group.to(tl.int64) * contexts, logs, words + at * ((contexts + 31) // 32), contexts


@triton.jit
def _logits(
    queries: tl.tensor,  # (BM, DP)
    summary: tl.tuple,
    start: tl.tensor,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    SN: tl.constexpr,
) -> tl.tuple:
    """Logits (BM, SN) of contexts start … start + SN − 1, −inf where not skipped; keys, indices, which exist.

    SN divides 32 and start.
    """
    kv, skips, logs, words, contexts = summary
    k_base, k_row, _, _ = kv
    context = start + tl.arange(0, SN)
    exists = context < contexts
    keys = load_rows(k_base, context, k_row, exists, D, DP)  # (SN, DP)
    logits = tl.dot(fresh(queries, start < contexts), tl.trans(keys), input_precision="ieee") * scale
    logits += tl.load(logs + context, mask=exists, other=0.0)[None, :]
    skipped = (tl.load(skips + context, mask=exists, other=0) > 0)[None, :]
    if ROUTED:
        word = tl.load(words + start // 32, mask=inside, other=0)  # (BM,)
        skipped = skipped & (((word[:, None] >> (context % 32)[None, :]) & 1) == 0)
    return tl.where(skipped, logits, float("-inf")), keys, context, exists


@triton.jit
def softmax_over_summaries(
    state: tl.tuple,
    queries: tl.tensor,  # (BM, DP)
    summary: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tuple:
    """Go on with the softmax of BM queries over the contexts that they skip."""
    SN: tl.constexpr = min(BN, 32)
    for start in range(0, summary[4], SN):
        logits, _, context, exists = _logits(queries, summary, start, inside, scale, ROUTED, D, DP, SN)
        state = softmax_step(state, logits, summary[0], context, exists, D, DP)
    return state


@triton.jit
def gradient_over_summaries(
    sums: tl.tensor,  # (BM, DP)
    tile: tl.tuple,
    summary: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tensor:
    """Add what the contexts that BM queries skip contribute to their gradient."""
    SN: tl.constexpr = min(BN, 32)
    _, _, v_base, v_row = summary[0]
    for start in range(0, summary[4], SN):
        logits, keys, context, exists = _logits(tile[0], summary, start, inside, scale, ROUTED, D, DP, SN)
        values = load_rows(v_base, context, v_row, exists, D, DP)  # (SN, DP)
        sums = gradient_step(sums, tile, logits, keys, values, start < summary[4])
    return sums
