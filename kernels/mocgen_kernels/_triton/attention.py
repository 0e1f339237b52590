"""The differentiable operator on top of the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels._triton import backward, forward
from mocgen_kernels._triton.device import device_of
from mocgen_kernels._triton.saved import Inputs, Saved
from mocgen_kernels.compensation import context_means
from mocgen_kernels.selection import Selection


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    means = [context_means(x, selection.layout) for x in (k, v)] if compensate else [None, None]
    return _RoutedAttention.apply(q, k, v, *means, selection)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        k_means: Tensor | None,
        v_means: Tensor | None,
        selection: Selection,
    ) -> Tensor:
        out, lse = attend(q, k, v, k_means, v_means, selection)
        ctx.save_for_backward(q, k, v, k_means, v_means, out, lse)
        ctx.selection = selection
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, k_means, v_means, out, lse = ctx.saved_tensors
        return *gradients(grad, q, k, v, k_means, v_means, out, lse, ctx.selection), None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    selection: Selection,
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log₂-sum-exp₂ (B · H, Lq) fp32. k_means, v_means: (B, C, H, D)."""
    with device_of(q):
        return forward.attend(_inputs(q, k, v, k_means, v_means, selection))


def gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    out: Tensor,
    lse: Tensor,
    selection: Selection,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, k_means and v_means, from what `attend` took and gave."""
    inputs = _inputs(q, k, v, k_means, v_means, selection)
    saved = Saved(inputs=inputs, grad=grad.contiguous(), out=out, lse=lse, delta=torch.empty_like(lse))
    with device_of(q):
        return backward.gradients(saved)


def _inputs(
    q: Tensor, k: Tensor, v: Tensor, k_means: Tensor | None, v_means: Tensor | None, selection: Selection
) -> Inputs:
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    k_means, v_means = (x if x is None else x.contiguous() for x in (k_means, v_means))
    return Inputs(q=q, k=k, v=v, k_means=k_means, v_means=v_means, selection=selection)
