"""Backward: with the rows' log-sum-exp every part's gradients are exact by themselves and are only added.

With p = exp₂(logit − lse) and delta = do · o: dv_j = Σ p do_i, ds = p (do_i · v_j − delta_i),
dq_i = Σ ds k_j / √D, dk_j = Σ ds q_i / √D. No atomics; every sum has one order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen_kernels._triton.key_gradient import key_gradients
from mocgen_kernels._triton.lists import pair_blocks, query_lists
from mocgen_kernels._triton.query_gradient import query_gradients
from mocgen_kernels._triton.query_major_gradient import gradients_in_registers
from mocgen_kernels._triton.saved import Saved
from mocgen_kernels._triton.summary_gradient import summary_gradients


def gradients(saved: Saved) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v and, with compensation, of mean keys and values. Writes `saved.delta`."""
    inputs = saved.inputs
    layout = inputs.selection.layout
    tensors = (inputs.q, inputs.k, inputs.v)
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in tensors)
    means = list[tuple[Tensor, Tensor]]()
    for first, last in pair_blocks(inputs):
        words = inputs.words(first, last)
        lists = None if words is None else query_lists(words, layout.count)
        if not gradients_in_registers(saved, first, last, dq):
            query_gradients(saved, lists, first, last, dq)
        key_gradients(saved, lists, first, last, dk, dv)
        if inputs.k_means is not None:
            means.append(summary_gradients(saved, first, last))
    if not means:
        return dq, dk, dv, None, None
    return dq, dk, dv, *(_assembled(parts, inputs.q) for parts in zip(*means, strict=True))


def _assembled(parts: tuple[Tensor, ...], q: Tensor) -> Tensor:
    """Gradients of some pairs each, n × (C, D) fp32, as one of (B, C, H, D) in q's dtype."""
    whole = torch.cat(parts).unflatten(0, (q.shape[0], q.shape[2]))  # (B, H, C, D)
    return whole.transpose(1, 2).to(q.dtype)
