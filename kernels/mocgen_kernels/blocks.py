"""Cut the (batch item, head) pairs of a problem into blocks and work on them, in threads if torch has some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mocgen_kernels.selection import Selection

_QUERIES_PER_CALL = 512
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class HeadBlock:
    """Pairs begin … end − 1 of the B · H (batch item, head) pairs."""

    begin: int
    end: int
    heads: int  # H
    words: Tensor  # (h, Lq, W) int32

    def take(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The block's part of each (B, L, H, D), contiguous: (h, L, D)."""
        pairs = [divmod(pair, self.heads) for pair in range(self.begin, self.end)]
        return tuple(torch.stack([x[batch, :, head] for batch, head in pairs]) for x in tensors)

    def put(self, whole: Tensor, part: Tensor) -> None:
        """Write a block's (h, L, D) into (B, L, H, D)."""
        for index, pair in enumerate(range(self.begin, self.end)):
            whole[pair // self.heads, :, pair % self.heads] = part[index]


def head_blocks(selection: Selection) -> list[HeadBlock]:
    """Blocks of as many heads as it takes to give a context some hundred visitors."""
    assert selection.words is not None
    pairs = selection.batch * selection.heads
    visitors = selection.query_length * selection.budget / selection.layout.count
    size = min(pairs, max(1, round(_QUERIES_PER_CALL / max(visitors, 1.0))))
    words = selection.words.flatten(0, 1)  # (B·H, Lq, W)
    return [
        HeadBlock(begin=b, end=min(b + size, pairs), heads=selection.heads, words=words[b : b + size])
        for b in range(0, pairs, size)
    ]


def map_blocks(blocks: Sequence[HeadBlock], work: Callable[[HeadBlock], _Result]) -> Iterable[_Result]:
    """The results of `work`, block by block, without gradients."""

    def run(block: HeadBlock) -> _Result:
        with torch.no_grad():
            return work(block)

    return map(run, blocks)
