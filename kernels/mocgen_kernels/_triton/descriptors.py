"""Mean key of every context, or of equal pieces of each, in fp32."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.rows import load_rows, pair_base
from mocgen_kernels._triton.tiling import padded_dim
from mocgen_kernels.layout import ContextLayout

_BLOCK = 64


def pool_descriptors(k: Tensor, layout: ContextLayout, *, sub_descriptors: int = 1) -> Tensor:
    """As `mocgen_kernels.pool_descriptors`: k (B, L, H, D) → (B, C · r, H, D) fp32."""
    batch, _, heads, dim = k.shape
    k = k.detach() if k.stride(-1) == 1 else k.detach().contiguous()
    rows = layout.count * sub_descriptors
    out = torch.empty(batch, rows, heads, dim, dtype=torch.float32, device=k.device)
    pool_kernel[(rows * batch * heads,)](
        k,
        out,
        context_offsets(layout, k.device),
        heads,
        rows,
        sub_descriptors,
        *k.stride()[:3],
        D=dim,
        DP=padded_dim(dim),
        BLOCK=_BLOCK,
    )
    return out


@lru_cache(maxsize=16)
def context_offsets(layout: ContextLayout, device: torch.device) -> Tensor:
    """First token of every context, then L: (C + 1,) int32 on the device. Do not write to it."""
    return torch.tensor(layout.offsets, dtype=torch.int32, device="cpu").to(device)


@triton.jit(do_not_specialize=["count", "pieces", "heads"])
def pool_kernel(
    k: tl.tensor,  # (B, L, H, D)
    out: tl.tensor,  # (B, C · r, H, D) fp32, contiguous
    offsets: tl.tensor,  # (C + 1,) int32
    heads: tl.tensor,
    count: tl.tensor,  # C · r
    pieces: tl.tensor,  # r
    k_batch: tl.tensor,
    k_row: tl.tensor,
    k_head: tl.tensor,
    D: tl.constexpr,
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The mean of the keys of one piece of a context (see `layout.piece_of`) in one head."""
    row, pair = tl.program_id(0) % count, tl.program_id(0) // count
    context, piece = row // pieces, (row % pieces).to(tl.int64)
    first, length = tl.load(offsets + context), tl.load(offsets + context + 1) - tl.load(offsets + context)
    begin = first + (piece * length // pieces).to(tl.int32)
    end = tl.maximum(begin + 1, first + ((piece + 1) * length // pieces).to(tl.int32))
    base = pair_base(k, pair, heads, k_batch, k_head)
    sums = tl.zeros((BLOCK, DP), tl.float32)
    for start in range(begin, end, BLOCK):
        rows = start + tl.arange(0, BLOCK)
        sums += load_rows(base, rows, k_row, rows < end, D, DP).to(tl.float32)
    mean = tl.sum(sums, axis=0) / (end - begin).to(tl.float32)  # (DP,)
    pair = pair.to(tl.int64)
    at = ((pair // heads * count + row) * heads + pair % heads) * D
    columns = tl.arange(0, DP)
    tl.store(out + at + columns, mean, mask=columns < D)
