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
    """Who attends to what, anchors included: a slot for every pair of a query and a context it attends to.

    Queries are counted over batch items, tokens and heads, in this order: N = B · Lq · H. Slots are counted
    batch after batch.
    """

    batches: list[Batch]
    attended: Tensor  # (C, N) bool
    slots: Tensor  # (C, N) int64: where the pair is; 0 where there is none
    count: int  # slots

    @classmethod
    def of(cls, attended: Tensor, layout: ContextLayout) -> Lists:
        """From what queries attend to, (C, B, Lq, H) bool."""
        count, batch, _, heads = attended.shape
        ranks = attended.cumsum(2)  # (C, B, Lq, H): the place of a query in its list, from 1 on
        longest = ranks[:, :, -1].amax((1, 2)).tolist()
        starts = [[0] * batch] * count  # first slot of every context, counted from 1, less a row of heads
        batches, total = list[tuple[list[int], int, int]](), 0
        for contexts in _alike(longest, layout, batch * heads):
            begin, room = total, heads * max(longest[c] for c in contexts)
            total += room * batch * len(contexts)
            for i, c in enumerate(contexts):
                starts[c] = [1 + begin + (b * len(contexts) + i) * room - heads for b in range(batch)]
            batches.append((contexts, begin, total))
        base = torch.tensor(starts)[..., None] + torch.arange(heads)  # (C, B, H)
        slots = torch.add(base[:, :, None], ranks, alpha=heads, out=ranks).mul_(attended).view(count, -1)
        rows = torch.zeros(1 + total, dtype=torch.int64)
        rows.scatter_(0, slots.view(-1), torch.arange(slots.shape[1]).expand_as(slots).reshape(-1))
        return cls(
            batches=[
                Batch(
                    contexts=contexts,
                    size=layout.lengths[contexts[0]],
                    longest=(end - begin) // (batch * len(contexts) * heads),
                    rows=rows[1 + begin : 1 + end],
                )
                for contexts, begin, end in batches
            ],
            attended=attended.view(count, -1),
            slots=slots.sub_(1).clamp_(min=0),
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
