"""Device functions that several kernels share: addresses, rows of matrices."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pair_base(
    pointer: tl.tensor, pair: tl.tensor, heads: tl.tensor, batch_stride: tl.tensor, head_stride: tl.tensor
) -> tl.tensor:
    """Address of token 0 of one (batch item, head) pair of a tensor (B, L, H, D)."""
    pair = pair.to(tl.int64)
    return pointer + (pair // heads) * batch_stride + (pair % heads) * head_stride


@triton.jit
def packed_base(
    pointer: tl.tensor, pair: tl.tensor, heads: tl.tensor, length: tl.tensor, D: tl.constexpr
) -> tl.tensor:
    """The same for a contiguous tensor (B, length, H, D), whose tokens are heads · D apart."""
    pair = pair.to(tl.int64)
    return pointer + (pair // heads * length * heads + pair % heads) * D


@triton.jit
def keys_of(
    k: tl.tensor,  # (B, L, H, D)
    k_batch: tl.tensor,
    k_row: tl.tensor,
    k_head: tl.tensor,
    v: tl.tensor,  # (B, L, H, D)
    v_batch: tl.tensor,
    v_row: tl.tensor,
    v_head: tl.tensor,
    pair: tl.tensor,
    heads: tl.tensor,
) -> tl.tuple:
    """Keys and values of one pair, as the loops want them: (k_base, k_row, v_base, v_row)."""
    k_base = pair_base(k, pair, heads, k_batch, k_head)
    return k_base, k_row, pair_base(v, pair, heads, v_batch, v_head), v_row


@triton.jit
def load_tile(tiles: tl.tensor, tile: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """One row of a table (T, 3): first token, one past the last, what the tile belongs to."""
    return tl.load(tiles + 3 * tile), tl.load(tiles + 3 * tile + 1), tl.load(tiles + 3 * tile + 2)


@triton.jit
def load_rows(
    base: tl.tensor, rows: tl.tensor, stride: tl.tensor, inside: tl.tensor, D: tl.constexpr, DP: tl.constexpr
) -> tl.tensor:
    """Rows (n,) of a matrix with D columns: (n, DP), zero where not inside and beyond column D."""
    columns = tl.arange(0, DP)
    mask = inside[:, None]
    if DP > D:
        mask = mask & (columns < D)[None, :]
    at = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(base + at, mask=mask, other=0.0)


@triton.jit
def store_rows(
    base: tl.tensor,
    rows: tl.tensor,
    stride: tl.tensor,
    inside: tl.tensor,
    values: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
) -> None:
    """Write values (n, DP), cast to the type of the target, into rows (n,) of a matrix with D columns."""
    columns = tl.arange(0, DP)
    mask = inside[:, None]
    if DP > D:
        mask = mask & (columns < D)[None, :]
    at = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(base + at, values.to(base.dtype.element_ty), mask=mask)


@triton.jit
def load_output(
    grad: tl.tensor,  # (B, Lq, H, D), contiguous
    out: tl.tensor,  # (B, Lq, H, D), contiguous
    lse: tl.tensor,  # (B · H, Lq)
    delta: tl.tensor,  # (B · H, Lq)
    pair: tl.tensor,
    heads: tl.tensor,
    length: tl.tensor,
    rows: tl.tensor,  # (BM,)
    inside: tl.tensor,  # (BM,)
    D: tl.constexpr,
    DP: tl.constexpr,
) -> tl.tuple:
    """Upstream gradient (BM, DP), log-sum-exp (BM,) and delta = out · grad (BM,), which is also written."""
    grads = load_rows(packed_base(grad, pair, heads, length, D), rows, heads * D, inside, D, DP)
    outs = load_rows(packed_base(out, pair, heads, length, D), rows, heads * D, inside, D, DP)
    row_delta = tl.sum(grads.to(tl.float32) * outs.to(tl.float32), axis=1)
    tl.store(delta + pair * length + rows, row_delta, mask=inside)
    return grads, tl.load(lse + pair * length + rows, mask=inside, other=0.0), row_delta


@triton.jit
def fresh(tile: tl.tensor, still: tl.tensor) -> tl.tensor:
    """The same tile, in fp32 made anew in every turn of a loop; `still` is true, but known only in that turn.

    A product in full fp32 takes its operands from registers; rows of 128 numbers that stayed there through
    the loop would leave no room for anything else.
    """
    if tile.dtype == tl.float32:
        tile = tl.where(still, tile, 0.0)
    return tile
