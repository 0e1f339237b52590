"""For every context, the queries that attend to it, padded to equally long lists: tables for large calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mocgen_kernels.layout import ContextLayout

_PAIRS_PER_CALL = 1 << 17  # that cost as much as another call


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Contexts of m tokens each, with room for n − 1 queries per batch item, context and head."""

    contexts: list[int]  # ascending, c of them
    size: int  # m
    room: int  # n: for the longest of their lists, and one empty slot before it
    rows: Tensor  # (B · c · H · n,) int64: the query of every slot; an arbitrary one in empty slots


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Who attends to what, anchors included: a slot for every pair of a query and a context it attends to.

    Queries are counted over batch items, tokens and heads, in this order: N = B · Lq · H. Slots are counted
    batch after batch; slot 0 is empty.
    """

    batches: list[Batch]
    slots: Tensor  # (C, N) int64: where the pair is; 0 where there is none
    count: int  # slots

    @classmethod
    def of(cls, attended: Tensor, layout: ContextLayout) -> Lists:
        """From what queries attend to, (C, B, Lq, H) bool."""
        count, batch, _, heads = attended.shape
        ranks = attended.cumsum(2)  # (C, B, Lq, H): the place of a query in its list, from 1 on
        longest = ranks[:, :, -1].amax((1, 2)).tolist()
        begins = [[[0] * heads] * batch] * count  # of every list: its empty slot
        sizes, groups = list[int](), _alike(longest, layout, batch * heads)
        for contexts in groups:
            room = 1 + max(longest[c] for c in contexts)
            begin, step = sum(sizes), heads * room
            for c in contexts:
                starts = range(begin, begin + batch * len(contexts) * step, len(contexts) * step)
                begins[c] = [list(range(start, start + step, room)) for start in starts]
                begin += step
            sizes.append(batch * len(contexts) * step)
        slots = ranks.add_(torch.tensor(begins)[:, :, None]).mul_(attended).view(count, -1)
        rows = torch.zeros(sum(sizes), dtype=torch.int64)
        rows.scatter_(0, slots.view(-1), _repeated(slots.shape[1], count))
        return cls(
            batches=[
                Batch(
                    contexts=contexts,
                    size=layout.lengths[contexts[0]],
                    room=len(some) // (batch * len(contexts) * heads),
                    rows=some,
                )
                for contexts, some in zip(groups, rows.split(sizes), strict=True)
            ],
            slots=slots,
            count=len(rows),
        )


@lru_cache(maxsize=4)
def _repeated(number: int, times: int) -> Tensor:
    """0 … number − 1, so many times: (times · number,) int64. Do not write to it."""
    return torch.arange(number).repeat(times)


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
