"""For every context, the queries that attend to it, padded to equally long lists: tables for large calls."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels.layout import ContextLayout

_PAIRS_PER_CALL = 1 << 17  # that cost as much as another call


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Contexts of m tokens each, with room for n queries per batch item, head and context."""

    contexts: list[int]  # ascending, c of them
    size: int  # m
    longest: int  # n: of their lists, the longest one
    rows: Tensor  # (B · c · n · H,) int64: the query of every slot; 0 where a list has come to its end


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Who attends to what, anchors included: a part per query and context, a slot for every part.

    Queries are counted over batch items, tokens and heads, in this order: N = B · Lq · H. A cell is one of
    the N · C pairs of query and context. Slots are counted batch after batch.
    """

    batches: list[Batch]
    cells: Tensor  # (parts,) int64: the cells where a query attends to a context, ascending
    slots: Tensor  # (parts,) int64: where each of them is
    begins: Tensor  # (N,) int64: where the parts of each query begin
    count: int  # slots

    @classmethod
    def of(cls, attended: Tensor, layout: ContextLayout) -> Lists:
        """From what queries attend to, (B, Lq, H, C) bool."""
        batch, _, heads, count = attended.shape
        ranks = attended.cumsum(1).sub_(1)  # (B, Lq, H, C): the place of the query in its list
        longest = ranks[:, -1].amax((0, 1)).add_(1).tolist()
        groups = _alike(longest, layout, batch * heads)
        starts = torch.zeros(batch, count, dtype=torch.int64)  # first slot of every context
        total, spans = 0, []
        for contexts in groups:
            room = heads * max(longest[c] for c in contexts)
            begin, lists = total, batch * len(contexts)
            total += room * lists
            starts[:, contexts] = torch.arange(begin, total, room).view(batch, -1)
            spans.append((begin, total))
        slots = ranks.mul_(heads).add_(torch.arange(heads)[:, None]).add_(starts[:, None, None])
        cells = attended.view(-1).nonzero().view(-1)
        slots = slots.view(-1).index_select(0, cells)
        rows = torch.zeros(total, dtype=torch.int64)
        rows[slots] = cells.div(count, rounding_mode="floor")
        parts = attended.view(-1, count).sum(1)
        return cls(
            batches=[
                Batch(
                    contexts=contexts,
                    size=layout.lengths[contexts[0]],
                    longest=(end - begin) // (batch * len(contexts) * heads),
                    rows=rows[begin:end],
                )
                for contexts, (begin, end) in zip(groups, spans, strict=True)
            ],
            cells=cells,
            slots=slots,
            begins=parts.cumsum(0).sub_(parts),
            count=total,
        )


def _alike(longest: list[int], layout: ContextLayout, pairs: int) -> list[list[int]]:
    """Contexts of equal length, cut where longer padding would cost more than another call."""
    groups: list[list[int]] = []
    order = sorted(range(layout.count), key=lambda c: (layout.lengths[c], -longest[c]))
    for context in filter(lambda c: longest[c], order):
        size = layout.lengths[context]
        if groups and layout.lengths[groups[-1][0]] == size:
            wasted = (longest[groups[-1][0]] - longest[context]) * size * pairs
            if wasted <= _PAIRS_PER_CALL:
                groups[-1].append(context)
                continue
        groups.append([context])
    return [sorted(group) for group in groups]
