"""Cut the (batch item, head) pairs of a problem into blocks; work on them in as many threads as torch uses.

Threads over heads, with few threads within each, beat threads within one head's small operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mocgen_kernels.selection import Selection

_VISITORS_PER_CALL = 1024
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class HeadBlock:
    """Pairs begin … end − 1 of the B · H (batch item, head) pairs."""

    begin: int
    end: int
    heads: int  # H
    words: Tensor  # (h, Lq, W) int32

    def take(self, x: Tensor) -> Tensor:
        """The block's part of (B, L, H, D), contiguous: (h, L, D)."""
        pairs = [divmod(pair, self.heads) for pair in range(self.begin, self.end)]
        return torch.stack([x[batch, :, head] for batch, head in pairs])

    def put(self, whole: Tensor, part: Tensor) -> None:
        """Write a block's (h, L, D) into (B, L, H, D)."""
        for index, pair in enumerate(range(self.begin, self.end)):
            whole[pair // self.heads, :, pair % self.heads] = part[index]


def head_blocks(selection: Selection) -> list[HeadBlock]:
    """Blocks of as many heads as it takes to give a context enough visitors, but one block per thread."""
    assert selection.words is not None
    pairs = selection.batch * selection.heads
    visitors = selection.query_length * selection.budget / selection.layout.count
    wanted = max(1, round(_VISITORS_PER_CALL / max(visitors, 1.0)))
    size = min(wanted, -(-pairs // torch.get_num_threads()))
    words = selection.words.flatten(0, 1)  # (B·H, Lq, W)
    return [
        HeadBlock(begin=b, end=min(b + size, pairs), heads=selection.heads, words=words[b : b + size])
        for b in range(0, pairs, size)
    ]


def map_blocks(blocks: Sequence[HeadBlock], work: Callable[[HeadBlock], _Result]) -> Iterator[_Result]:
    """The results of `work`, block by block, computed without gradients."""

    def run(block: HeadBlock) -> _Result:
        with torch.no_grad():
            return work(block)

    threads = torch.get_num_threads()
    workers = min(threads, len(blocks))
    if workers == 1:
        yield from map(run, blocks)
        return
    try:
        share = max(1, threads // workers)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield from pool.map(run, blocks)
    finally:
        torch.set_num_threads(threads)  # torch hands the latest setting to threads that start later
