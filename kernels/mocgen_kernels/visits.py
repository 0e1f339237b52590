"""Turn routed bits around: for every context, the queries that chose it.

Rows number the (batch item, query, head) triples in memory order: row (b · Lq + token) · H + head of what
(B, Lq, H, …) is once its first three dimensions are flattened.
"""

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
    """Queries of a block of heads that chose one context: n in all, at most m of one head."""

    begin: int  # first token of the context
    end: int  # one past the last
    rows: Tensor  # (n,) int64, by head, then ascending
    shape: tuple[int, int]  # (h, m)
    slots: Tensor | None  # (n,) where they lie in the padded (h · m) list; None: no padding is needed

    def gather(self, x: Tensor) -> Tensor:
        """The visitors' rows, padded with zeros to equal numbers per head: (B · Lq · H, …) → (1, h, m, …)."""
        chosen = x.index_select(0, self.rows)
        if self.slots is not None:
            padded = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:])
            chosen = padded.index_copy_(0, self.slots, chosen)
        return chosen.view(1, *self.shape, *x.shape[1:])

    def of(self, x: Tensor) -> Tensor:
        """The context's tokens of (1, h, L, D), a view: (1, h, n, D)."""
        return x[:, :, self.begin : self.end]

    def flat(self, x: Tensor) -> Tensor:
        """The padding taken out again: (1, h, m, …) → (n, …)."""
        x = x.flatten(0, 2)
        return x if self.slots is None else x.index_select(0, self.slots)


def visits(block: HeadBlock, selection: Selection) -> Iterator[Visit]:
    """Every context that some query of the block chose, context by context."""
    assert selection.words is not None
    layout, heads, length = selection.layout, selection.heads, selection.query_length
    words = selection.words[block.batch, block.begin : block.end]  # (h, Lq, W)
    base = block.batch * length * heads + block.begin
    bytes_ = words.contiguous().view(torch.uint8)  # (h, Lq, 4 W), least significant first
    for first in range(0, layout.count, 8):
        plane = bytes_[..., first // 8].contiguous()  # (h, Lq)
        for context in range(first, min(first + 8, layout.count)):
            begin, end = layout.offsets[context], layout.offsets[context + 1]
            hits = plane.bitwise_and(1 << (context - first))
            if block.heads == 1:
                rows = hits.view(-1).nonzero().view(-1).mul_(heads).add_(base)
                for piece in rows.split(_MOST_ROWS) if len(rows) else ():
                    yield Visit(begin=begin, end=end, rows=piece, shape=(1, len(piece)), slots=None)
            elif (visit := _visit_of_heads(hits, begin, end, heads, base)) is not None:
                yield visit


def _visit_of_heads(hits: Tensor, begin: int, end: int, heads: int, base: int) -> Visit | None:
    """One visit by the queries of several heads that are marked in `hits` (h, Lq)."""
    head, token = hits.nonzero(as_tuple=True)
    if len(head) == 0:
        return None
    per_head = torch.bincount(head, minlength=len(hits))  # (h,)
    most, slots = int(per_head.max()), None
    if most * len(hits) > len(head):  # rank within the head, plus head · most
        shifts = torch.arange(len(hits)) * most - (per_head.cumsum(0) - per_head)
        slots = torch.arange(len(head)) + shifts[head]
    rows = token.mul_(heads).add_(head).add_(base)
    return Visit(begin=begin, end=end, rows=rows, shape=(len(hits), most), slots=slots)
