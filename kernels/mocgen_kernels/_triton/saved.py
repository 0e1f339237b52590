"""What the backward pass works from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mocgen_kernels.selection import Selection


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """Tensors of the forward pass and the gradient of its output."""

    grad: Tensor  # (B, Lq, H, D), contiguous
    q: Tensor  # (B, Lq, H, D)
    k: Tensor  # (B, L, H, D)
    v: Tensor  # (B, L, H, D)
    out: Tensor  # (B, Lq, H, D), contiguous
    lse: Tensor  # (B · H, Lq) fp32, base 2
    delta: Tensor  # (B · H, Lq) fp32: out · grad; written by the kernel that comes first
    selection: Selection

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of q, k and v along batch, tokens and heads: 9 numbers."""
        return (*self.q.stride()[:3], *self.k.stride()[:3], *self.v.stride()[:3])
