"""Attention mass by context: how much softmax probability each context received."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_SCORES = 4_000_000  # scores held at a time (16 MB in fp32)


def context_mass(
    queries: Tensor, keys: Tensor, attended: Tensor, lengths: Tensor, *, chunk_scores: int = CHUNK_SCORES
) -> Tensor:
    """Softmax probability that a run of queries gives to each context, summed over the queries.

    One row is ``softmax(q · k / sqrt(D))`` over the tokens of the contexts that the query attends to;
    it is computed in fp32 and exactly, for a few rows at a time, over the keys that some of them attends to.

    Args:
        queries: (Q, H, D).
        keys: (L, H, D), all tokens of the layout.
        attended: (H, Q, C) bool, the contexts that each query attends to; at least one per query.
        lengths: (C,) tokens of each context; their sum is L.
        chunk_scores: scores held at a time, which bounds the memory.

    Returns:
        (H, C) float64; the sum over C is Q.
    """
    heads, contexts = queries.shape[1], lengths.numel()
    context_of = torch.arange(contexts, device=keys.device).repeat_interleave(lengths)  # (L,)
    mass = torch.zeros(heads, contexts, dtype=torch.float64, device=keys.device)
    for head in range(heads):
        wanted = attended[head].any(0)[context_of].nonzero().squeeze(1)  # (K,) tokens somebody attends to
        key, owner = keys[wanted, head].float(), context_of[wanted]  # (K, D), (K,)
        for rows in torch.arange(queries.shape[0], device=keys.device).split(
            max(1, chunk_scores // max(1, wanted.numel()))
        ):
            scores = queries[rows, head].float() @ key.T * queries.shape[-1] ** -0.5  # (rows, K)
            hidden = ~attended[head, rows][:, owner]  # (rows, K)
            probability = scores.masked_fill_(hidden, float("-inf")).softmax(-1)
            mass[head].index_add_(0, owner, probability.sum(0).double())
    return mass
