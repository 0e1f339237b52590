"""Gradients of mean keys and mean values: key-major, since every query may skip a context.

A program owns some contexts in one head and goes through its share of the tiles of queries; the shares' sums
are added afterwards, always in the same order.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.key_gradient import add_key_gradients
from mocgen_kernels._triton.rows import load_rows, load_tile, packed_base, pair_base, store_rows
from mocgen_kernels._triton.saved import Saved
from mocgen_kernels._triton.tiling import LOG2E, padded_dim, tiling

_PROGRAMS = 512  # enough for every GPU; a fixed number, so that sums are the same on all of them


def summary_gradients(saved: Saved, first: int, last: int) -> tuple[Tensor, Tensor]:
    """For pairs first … last − 1: (n, C, D) fp32, twice. `saved.delta` must be there."""
    inputs = saved.inputs
    q, contexts = inputs.q, inputs.selection.layout.count
    _, length, heads, dim = q.shape
    tile = tiling("summary-gradient", q.dtype, dim)
    plan, blocks = inputs.plan(tile), triton.cdiv(contexts, tile.keys)
    tiles, pairs = len(plan.query_tiles), last - first
    shares = max(1, min(tiles, _PROGRAMS // (blocks * pairs)))
    sums = torch.empty(2, shares, pairs, contexts, dim, dtype=torch.float32, device=q.device)
    summary_gradient_kernel[(blocks, shares, pairs)](
        *(saved.grad, q, saved.lse, saved.delta, sums[0], sums[1], plan.query_tiles),
        *inputs.summaries(plan, first, last),
        *(first, heads, length, tiles, LOG2E / math.sqrt(dim), *inputs.strides[:3]),
        ROUTED=inputs.selection.words is not None,
        D=dim,
        DP=padded_dim(dim),
        BM=tile.rows,
        BN=tile.keys,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    dk, dv = sums.sum(dim=1)
    return dk * dim**-0.5, dv


@triton.jit(do_not_specialize=["contexts", "first", "heads", "length", "count"])
def summary_gradient_kernel(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    q: tl.tensor,  # (B, Lq, H, D)
    lse: tl.tensor,  # (B · H, Lq) fp32
    delta: tl.tensor,  # (B · H, Lq) fp32
    dk_sums: tl.tensor,  # (shares, n, C, D) fp32
    dv_sums: tl.tensor,  # (shares, n, C, D) fp32
    tiles: tl.tensor,  # (T, 3) int32
    k_means: tl.tensor,  # (B, C, H, D), contiguous
    v_means: tl.tensor,  # (B, C, H, D), contiguous
    skips: tl.tensor,  # (G, C) uint8
    logs: tl.tensor,  # (C,) fp32
    words: tl.tensor,  # (n, Lq, W) int32, read if ROUTED
    contexts: tl.tensor,
    first: tl.tensor,  # first of the n pairs
    heads: tl.tensor,
    length: tl.tensor,  # Lq
    count: tl.tensor,  # T
    scale: tl.tensor,
    q_batch: tl.tensor,
    q_row: tl.tensor,
    q_head: tl.tensor,
    ROUTED: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,  # divides 32
) -> None:
    """What one share of the tiles of queries contributes to the gradients of BN means."""
    start, share, local = tl.program_id(0) * BN, tl.program_id(1), tl.program_id(2).to(tl.int64)
    own = start + tl.arange(0, BN)
    exists, pair = own < contexts, first + local
    keys = load_rows(packed_base(k_means, pair, heads, contexts, D), own, heads * D, exists, D, DP)
    values = load_rows(packed_base(v_means, pair, heads, contexts, D), own, heads * D, exists, D, DP)
    log = tl.load(logs + own, mask=exists, other=0.0)
    q_base = pair_base(q, pair, heads, q_batch, q_head)
    grad_base = packed_base(grad, pair, heads, length, D)
    lse_base, delta_base = lse + pair * length, delta + pair * length
    sums_k = tl.zeros((BN, DP), tl.float32)
    sums_v = tl.zeros((BN, DP), tl.float32)
    shares = tl.num_programs(1)
    for tile in range(share * count // shares, (share + 1) * count // shares):
        begin, end, group = load_tile(tiles, tile)
        allowed = tl.load(skips + group.to(tl.int64) * contexts + own, mask=exists, other=0)
        if tl.max(allowed.to(tl.int32), axis=0) > 0:
            rows = begin + tl.arange(0, BM)
            inside = rows < end
            bias = tl.where(allowed > 0, log, float("-inf"))[:, None]  # (BN, 1)
            if ROUTED:
                at = (local * length + rows) * ((contexts + 31) // 32) + start // 32
                word = tl.load(words + at, mask=inside, other=0)  # (BM,)
                routed = (word[None, :] >> (own % 32)[:, None]) & 1
                bias = tl.where(routed == 0, bias, float("-inf"))  # (BN, BM)
            sums_k, sums_v = add_key_gradients(
                sums_k, sums_v, keys, values, rows, inside, q_base, grad_base, lse_base, delta_base, q_row,
                heads * D, scale, bias, D, DP, True,
            )  # fmt: skip
    to = (share * tl.num_programs(2) + local) * contexts * D
    store_rows(dk_sums + to, own, D, exists, sums_k, D, DP)
    store_rows(dv_sums + to, own, D, exists, sums_v, D, DP)
