"""The operator on top of the kernels, and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen_kernels._triton import backward, forward
from mocgen_kernels._triton.device import device_of
from mocgen_kernels._triton.saved import Inputs, Saved
from mocgen_kernels.autograd import differentiable
from mocgen_kernels.selection import Selection


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    return differentiable(attend, gradients, q, k, v, selection, compensate=compensate)


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
