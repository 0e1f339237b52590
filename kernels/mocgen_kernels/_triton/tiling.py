"""Tile sizes of the kernels, per element size and head dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

Purpose = Literal["forward", "query-gradient", "key-gradient", "summary-gradient", "query-major"]
MAX_DIM = 128
LOG2E = math.log2(math.e)  # exp(x) = exp2(x · LOG2E)
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
        if purpose == "query-gradient" and dim > 64:
            return Tiling(rows=64, keys=16, warps=16, stages=1)
        if purpose in ("query-gradient", "summary-gradient"):
            return Tiling(rows=16, keys=16, warps=8, stages=1)
        return Tiling(rows=32, keys=16, warps=8, stages=1)
    if purpose == "key-gradient":
        return Tiling(rows=64, keys=64, warps=8, stages=2)
    if purpose == "summary-gradient":
        return Tiling(rows=64, keys=32, warps=8, stages=2)
    if purpose == "query-major":  # few queries, so that they share what they chose
        return Tiling(rows=64, keys=64, warps=8, stages=2)
    if dim != padded_dim(dim):  # masks along D take registers
        return Tiling(rows=128, keys=32, warps=8, stages=2)
    return Tiling(rows=128, keys=64, warps=8, stages=3 if purpose == "forward" and dim > 64 else 2)


def padded_dim(dim: int) -> int:
    """Columns of a tile: a power of two, at least 16."""
    return max(16, 1 << (dim - 1).bit_length())
