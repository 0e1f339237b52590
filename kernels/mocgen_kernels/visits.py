"""Turn routed bits around: for every context, the queries that chose it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels.selection import WORD_BITS, Selection


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The queries of some heads that chose one context, n in all, at most m in one head."""

    begin: int  # first token of the context
    end: int  # one past the last
    rows: Tensor  # (n,) rows of the flattened (h · Lq) queries, ascending
    shape: tuple[int, int]  # (h, m)
    slots: Tensor | None  # (n,) where they lie in the padded (h · m) list; None: no padding is needed

    def gather(self, x: Tensor) -> Tensor:
        """The visitors' rows, padded with zeros to equal numbers per head: (h · Lq, …) → (h, m, …)."""
        chosen = x.index_select(0, self.rows)
        if self.slots is not None:
            padded = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:])
            chosen = padded.index_copy_(0, self.slots, chosen)
        return chosen.view(*self.shape, *x.shape[1:])

    def flat(self, x: Tensor) -> Tensor:
        """The padding taken out again: (h, m, …) → (n, …)."""
        x = x.flatten(0, 1)
        return x if self.slots is None else x.index_select(0, self.slots)


def visits(words: Tensor, selection: Selection) -> Iterator[Visit]:
    """Every context that some query of these heads chose. `words`: (h, Lq, W) int32."""
    offsets, (heads, length) = selection.layout.offsets, words.shape[:2]
    for word in range(words.shape[2]):
        first = word * WORD_BITS
        count = min(WORD_BITS, selection.layout.count - first)
        bits = (1 << torch.arange(count, dtype=torch.int64)).int()[:, None]
        hits = words[..., word].reshape(1, -1).bitwise_and(bits).ne_(0)  # (count, h · Lq)
        contexts, rows = hits.nonzero(as_tuple=True)
        per_head = torch.bincount(contexts * heads + rows // length, minlength=count * heads)
        per_head = per_head.view(count, heads)
        totals, most = per_head.sum(dim=1).tolist(), per_head.amax(dim=1).tolist()
        for index, mine in enumerate(rows.split(totals)):
            if totals[index] == 0:
                continue
            slots = None
            if most[index] * heads > totals[index]:
                slots = _slots(mine, per_head[index], most[index], length)
            yield Visit(
                begin=offsets[first + index],
                end=offsets[first + index + 1],
                rows=mine,
                shape=(heads, most[index]),
                slots=slots,
            )


def _slots(rows: Tensor, per_head: Tensor, most: int, length: int) -> Tensor:
    """Where the rows lie once every head has `most` of them: the rank within the head, plus head · most."""
    shifts = torch.arange(len(per_head)) * most - (per_head.cumsum(0) - per_head)  # (h,)
    return torch.arange(len(rows)) + shifts[rows // length]
