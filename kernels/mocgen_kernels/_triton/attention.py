"""The differentiable operator on top of the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels._triton.backward import gradients
from mocgen_kernels._triton.device import device_of
from mocgen_kernels._triton.forward import attend
from mocgen_kernels._triton.saved import Saved
from mocgen_kernels.selection import Selection


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    return _RoutedAttention.apply(q, k, v, selection)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        with device_of(q):
            out, lse = attend(q, k, v, selection)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.selection = selection
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        saved = Saved(
            grad=grad.contiguous(),
            q=q,
            k=k,
            v=v,
            out=out,
            lse=lse,
            delta=torch.empty_like(lse),
            selection=ctx.selection,
        )
        with device_of(q):
            return *gradients(saved), None
