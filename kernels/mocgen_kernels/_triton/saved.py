"""What the operator works on, and what its backward pass works from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels._triton.plan import DensePlan, dense_plan
from mocgen_kernels._triton.tiling import Tiling
from mocgen_kernels.selection import Selection


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Tensors of one dtype on one device; neighbours along D are neighbours in memory."""

    q: Tensor  # (B, Lq, H, D)
    k: Tensor  # (B, L, H, D)
    v: Tensor  # (B, L, H, D)
    k_means: Tensor | None  # (B, C, H, D), contiguous; None: skipped contexts count for nothing
    v_means: Tensor | None  # (B, C, H, D), contiguous
    selection: Selection

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of q, k and v along batch, tokens and heads: 9 numbers."""
        return (*self.q.stride()[:3], *self.k.stride()[:3], *self.v.stride()[:3])

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.q.device

    def plan(self, tile: Tiling) -> DensePlan:
        """Tables of the dense work in tiles of the given size."""
        return dense_plan(self.selection, tile.rows, tile.keys, self.device)

    def words(self, first: int, last: int) -> Tensor | None:
        """Bits of pairs first … last − 1: (n, Lq, W) int32; None where the choice is a table."""
        words = self.selection.words
        return None if words is None else words.flatten(0, 1)[first:last].contiguous()

    def summaries(self, plan: DensePlan, first: int, last: int) -> tuple[Tensor | int, ...]:
        """Arguments of kernels that may compensate; where they do not, or nothing is routed, stand-ins."""
        k_means = self.k if self.k_means is None else self.k_means
        v_means = self.v if self.v_means is None else self.v_means
        words = self.words(first, last)
        words = plan.spans if words is None else words
        return (k_means, v_means, plan.skips, plan.logs, words, self.selection.layout.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """Tensors of the forward pass and the gradient of its output."""

    inputs: Inputs
    grad: Tensor  # (B, Lq, H, D), contiguous
    out: Tensor  # (B, Lq, H, D), contiguous
    lse: Tensor  # (B · H, Lq) fp32, base 2
    delta: Tensor  # (B · H, Lq) fp32: out · grad; written by the kernel that comes first
