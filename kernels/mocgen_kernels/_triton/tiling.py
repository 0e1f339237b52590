"""Tile sizes of the kernels, per element size and head dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from triton.runtime import JITFunction

from mocgen_kernels._triton import rows

Purpose = Literal["forward", "query-gradient", "key-gradient"]
MAX_DIM = 128
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """One program works on `rows` queries and `keys` keys at a time."""

    rows: int
    keys: int
    warps: int
    stages: int


def tiling(purpose: Purpose, dtype: torch.dtype, dim: int) -> Tiling:
    """Sizes that need no spilled register and fit the shared memory of compute capability 8.0 and 9.0."""
    if dtype is torch.float32:
        return Tiling(rows=32, keys=32, warps=4, stages=1)
    if purpose == "forward":
        return Tiling(rows=128, keys=64, warps=8, stages=3)
    if purpose == "query-gradient":
        return Tiling(rows=128, keys=64, warps=8, stages=2)
    return Tiling(rows=64, keys=64, warps=8, stages=2)


def padded_dim(dim: int) -> int:
    """Columns of a tile: a power of two, at least 16."""
    return max(16, 1 << (dim - 1).bit_length())


def interpreted() -> bool:
    """Whether TRITON_INTERPRET was set when the kernels were loaded: they then run on any device, slowly."""
    return not isinstance(rows.load_rows, JITFunction)
