"""Device loops of a tile of queries over all contexts that any of them chose, those that did not masked.

`chosen` is (union_at, words_at, offsets, width): the address of the tile's W words of bits, the addresses
(BM,) of its queries' words, the first tokens of contexts (C + 1,), and W. The rest is as in spans.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mocgen_kernels._triton.spans import add_query_gradient, continue_softmax


@triton.jit
def softmax_over_union(
    state: tl.tuple,
    queries: tl.tensor,  # (BM, DP)
    kv: tl.tuple,
    chosen: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tuple:
    """Go on with the softmax of every query over the contexts that it chose."""
    union_at, words_at, offsets, width = chosen
    for word in range(width):
        union = tl.load(union_at + word)
        if union != 0:
            bits = tl.load(words_at + word, mask=inside, other=0)
            for lane in range(32):
                if (union >> lane) & 1 != 0:
                    context, picked = word * 32 + lane, (bits >> lane) & 1 != 0
                    begin, end = tl.load(offsets + context), tl.load(offsets + context + 1)
                    state = continue_softmax(state, queries, kv, begin, end, picked, scale, D, DP, BN, True)
    return state


@triton.jit
def gradient_over_union(
    sums: tl.tensor,  # (BM, DP)
    tile: tl.tuple,
    kv: tl.tuple,
    chosen: tl.tuple,
    inside: tl.tensor,  # (BM,)
    scale: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BN: tl.constexpr,
) -> tl.tensor:
    """Add to the gradient of every query what the contexts that it chose contribute."""
    union_at, words_at, offsets, width = chosen
    for word in range(width):
        union = tl.load(union_at + word)
        if union != 0:
            bits = tl.load(words_at + word, mask=inside, other=0)
            for lane in range(32):
                if (union >> lane) & 1 != 0:
                    context, picked = word * 32 + lane, (bits >> lane) & 1 != 0
                    begin, end = tl.load(offsets + context), tl.load(offsets + context + 1)
                    sums = add_query_gradient(sums, tile, kv, begin, end, picked, scale, D, DP, BN, True)
    return sums
