"""The differentiable operator on top of a backend that has a forward and a backward pass of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels.compensation import context_means
from mocgen_kernels.selection import Selection

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Selection], tuple[Tensor, Tensor]]
Gradients = Callable[..., tuple[Tensor | None, ...]]


def differentiable(
    attend: Attend,
    gradients: Gradients,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    selection: Selection,
    *,
    compensate: bool,
) -> Tensor:
    """`attend` with `gradients` as its backward pass: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D).

    attend: (q, k, v, k_means, v_means, selection) → output, and log-sum-exps for `gradients`; the means are
        (B, C, H, D) with compensation, else None.
    gradients: (grad, q, k, v, k_means, v_means, output, log-sum-exps, selection) → those of q to v_means.
    """
    k_means, v_means = (context_means(x, selection.layout) if compensate else None for x in (k, v))
    if not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)):
        return attend(q, k, v, k_means, v_means, selection)[0]
    return _RoutedAttention.apply(q, k, v, k_means, v_means, selection, attend, gradients)


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
        attend: Attend,
        gradients: Gradients,
    ) -> Tensor:
        out, lse = attend(q, k, v, k_means, v_means, selection)
        ctx.save_for_backward(q, k, v, k_means, v_means, out, lse)
        ctx.selection, ctx.gradients = selection, gradients
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.gradients(grad, *ctx.saved_tensors, ctx.selection), None, None, None
