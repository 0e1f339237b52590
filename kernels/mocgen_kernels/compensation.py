"""Skipped contexts as one softmax term each: mean key, mean value, weighted by length.

For a query that skips a context of n tokens, exp(q · k̄ / √D + log n) v̄ stands for the sum over its tokens;
this is exact where all keys of the context are equal (by convexity it is at most the true mass otherwise).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels.blocks import HeadBlock
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.selection import Selection, unpack_bits

_CHUNK_ELEMENTS = 1 << 19


def context_means(x: Tensor, layout: ContextLayout) -> Tensor:
    """Mean of every context, in the same dtype, differentiable: (B, L, H, D) → (B, C, H, D)."""
    parts, context = [], 0
    for length, run in groupby(layout.lengths):
        count, start = len(list(run)), layout.offsets[context]
        tokens = x[:, start : start + count * length].unflatten(1, (count, length))
        parts.append(tokens.mean(dim=2, dtype=torch.promote_types(x.dtype, torch.float32)))
        context += count
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).to(x.dtype)


def log_lengths(layout: ContextLayout, dtype: torch.dtype = torch.float32) -> Tensor:
    """log n of every context: (C,), on the CPU."""
    return torch.tensor(layout.lengths, dtype=torch.float64, device="cpu").log().to(dtype)


def bias_dtype(q: Tensor) -> torch.dtype:
    """In which fused attention takes what is added to logits: 16 bits, where it has to be, round log n."""
    return torch.promote_types(q.dtype, torch.float32) if q.device.type == "cpu" else q.dtype


@dataclass(frozen=True, kw_only=True)
class Summaries:
    """What some queries of a chunk see of the contexts that they skip."""

    span: slice  # the queries, counted within the chunk
    bias: Tensor  # (Q, C) fp32: log n where skipped, else −inf


def summaries(block: HeadBlock, chunk: slice, selection: Selection) -> Iterator[Summaries]:
    """All queries of a chunk of one head, some at a time; for a selection with words, on the CPU."""
    layout, table = selection.layout, selection.candidate_table
    lengths = log_lengths(layout)
    contexts = layout.token_contexts()[-selection.query_length :] - selection.first_query_context  # (Lq,)
    words = block.words(selection)[0, 0]  # (Lq, W)
    step = max(1, _CHUNK_ELEMENTS // layout.count)
    for start in range(chunk.start, chunk.stop, step):
        some = slice(start, min(start + step, chunk.stop))
        skipped = ~unpack_bits(words[some], layout.count)  # (Q, C)
        skipped &= table[contexts[some]]
        yield Summaries(
            span=slice(some.start - chunk.start, some.stop - chunk.start),
            bias=torch.where(skipped, lengths, -torch.inf),
        )
