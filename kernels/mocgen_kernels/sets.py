"""Attention set by set: queries of a head that attend to the same contexts share one dense attention.

With few contexts there are few such sets, so nothing is masked, wasted or merged. Differentiable by
composition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen_kernels.grouped import attend, gather_contexts
from mocgen_kernels.selection import Selection


def attention_by_sets(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    batch, length, heads, dim = q.shape
    sets, layout = selection.sets, selection.layout
    rows = q.transpose(1, 2).reshape(-1, dim).index_select(0, sets.order)  # (B · H · Lq, D)
    keys, values = (x.transpose(1, 2).reshape(batch * heads, layout.length, dim) for x in (k, v))
    parts = []
    for some, (pair, contexts) in zip(rows.split(sets.counts), sets.members, strict=True):
        tokens = (gather_contexts(x[pair], layout, contexts, dim=0) for x in (keys, values))
        query, key, value = (x[None, :, None] for x in (some, *tokens))
        parts.append(attend(query, key, value, None)[0, :, 0])
    places = torch.empty_like(sets.order)
    places[sets.order] = torch.arange(len(places), device=q.device)
    out = torch.cat(parts).index_select(0, places)
    return out.view(batch, heads, length, dim).transpose(1, 2)
