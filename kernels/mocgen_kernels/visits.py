"""Turn routed bits around: for every context, the queries that chose it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels.blocks import HeadBlock
from mocgen_kernels.selection import Selection

_MOST_ROWS = 2048  # of one head at a time: larger pieces leave the second-level cache


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Queries of a chunk of a block that chose one context: n in all, at most m of one head."""

    begin: int  # first token of the context
    end: int  # one past the last
    rows: Tensor  # (n,) int64, ascending: head · Q + query
    shape: tuple[int, int]  # (h, m)
    slots: Tensor | None  # (n,) where they lie in the padded (h · m) list; None: no padding is needed

    def of(self, x: Tensor) -> Tensor:
        """The context's tokens of (1, h, L, D), a view: (1, h, n, D)."""
        return x[:, :, self.begin : self.end]

    def gather(self, x: Tensor) -> Tensor:
        """The visitors' rows, padded with zeros to equal numbers per head: (h · Q, …) → (1, h, m, …)."""
        chosen = x.index_select(0, self.rows)
        if self.slots is not None:
            padded = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:])
            chosen = padded.index_copy_(0, self.slots, chosen)
        return chosen.view(1, *self.shape, *x.shape[1:])

    def flat(self, x: Tensor) -> Tensor:
        """The padding taken out again: (1, h, m, …) → (n, …)."""
        x = x.flatten(0, 2)
        return x if self.slots is None else x.index_select(0, self.slots)


def visits(block: HeadBlock, chunk: slice, selection: Selection) -> Iterator[Visit]:
    """Every context that some query of the chunk chose, context by context."""
    assert selection.words is not None
    layout = selection.layout
    words = selection.words[block.batch, block.begin : block.end, chunk].contiguous()  # (h, Q, W)
    words_bytes = words.view(torch.uint8)  # (h, Q, 4 W), least significant first
    for first in range(0, layout.count, 8):
        plane = words_bytes[..., first // 8].contiguous()  # (h, Q)
        for context in range(first, min(first + 8, layout.count)):
            begin, end = layout.offsets[context], layout.offsets[context + 1]
            hits = plane.bitwise_and(1 << (context - first))
            rows = hits.view(-1).nonzero().view(-1)
            if len(rows) == 0:
                continue
            if block.heads == 1:
                for piece in rows.split(_MOST_ROWS):
                    yield Visit(begin=begin, end=end, rows=piece, shape=(1, len(piece)), slots=None)
            else:
                most, slots = _slots(hits, rows)
                yield Visit(begin=begin, end=end, rows=rows, shape=(block.heads, most), slots=slots)


def _slots(hits: Tensor, rows: Tensor) -> tuple[int, Tensor | None]:
    """The most hits (h, Q) of one head, m; where the rows lie once each head has m: rank + head · m."""
    per_head = hits.count_nonzero(dim=1)  # (h,)
    most = int(per_head.max())
    if most * len(hits) == len(rows):
        return most, None
    shifts = torch.arange(len(hits)) * most - (per_head.cumsum(0) - per_head)
    return most, torch.arange(len(rows)) + shifts[rows // hits.shape[1]]
