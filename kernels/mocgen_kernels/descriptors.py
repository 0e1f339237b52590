"""Descriptors: the mean keys of contexts, or of pieces of them."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels.blocks import for_each, worth_threads
from mocgen_kernels.layout import ContextLayout, piece_of


def pool_descriptors(k: Tensor, layout: ContextLayout, *, sub_descriptors: int = 1) -> Tensor:
    """Mean key of every context, or of r equal pieces of each: (B, L, H, D) → (B, C · r, H, D) fp32.

    Piece j of n tokens begins at token ⌊j · n / r⌋ and has one token at least; so pieces of a context of
    less than r tokens repeat.
    """
    return pooled(k, layout, sub_descriptors).permute(0, 3, 2, 1, 4).flatten(1, 2)


def pooled(k: Tensor, layout: ContextLayout, pieces: int) -> Tensor:
    """The same as (B, H, r, C, D)."""
    batch, _, heads, dim = k.shape
    out = torch.empty((batch, heads, pieces, layout.count, dim), dtype=torch.float32, device=k.device)
    step = 1 if k.device.type == "cpu" and worth_threads(k.numel()) > 1 else heads

    def work(head: int) -> None:
        _pool(k.detach()[:, :, head : head + step], layout, out[:, head : head + step])

    for_each(range(0, heads, step), work, numbers=k.numel())
    return out


def _pool(k: Tensor, layout: ContextLayout, out: Tensor) -> None:
    """Write the means of k (B, L, H, D) into out (B, H, r, C, D), neighbours of equal length in one pass."""
    context, pieces = 0, out.shape[2]
    for length, run in groupby(layout.lengths):
        count, start = len(list(run)), layout.offsets[context]
        keys = k[:, start : start + count * length].unflatten(1, (count, length))
        for piece in range(pieces):
            means = keys[:, :, piece_of(length, piece, pieces)].mean(dim=2, dtype=torch.float32)
            out[:, :, piece, context : context + count] = means.transpose(1, 2)  # k was read in order
        context += count


def by_head(means: Tensor, pieces: int) -> Tensor:
    """Descriptors (B, C · r, H, D) as (B, H, r, C, D) fp32."""
    return means.detach().float().unflatten(1, (-1, pieces)).permute(0, 3, 2, 1, 4).contiguous()
