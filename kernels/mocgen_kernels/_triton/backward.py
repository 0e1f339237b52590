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
from mocgen_kernels._triton.saved import Saved


def gradients(saved: Saved) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. Writes `saved.delta`."""
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (saved.q, saved.k, saved.v))
    selection = saved.selection
    for first, last in pair_blocks(selection):
        lists = None
        if selection.words is not None:
            lists = query_lists(selection.words.flatten(0, 1)[first:last], selection.layout.count)
        query_gradients(saved, lists, first, last, dq)
        key_gradients(saved, lists, first, last, dk, dv)
    return dq, dk, dv
