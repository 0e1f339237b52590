"""Cut a problem into blocks of heads and chunks of queries; work on blocks in as many threads as torch uses.

Threads over heads, with few threads within each, beat threads within one head's small operations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from mocgen_kernels.selection import Selection

Item = TypeVar("Item")
_VISITORS_PER_CALL = 1024  # fewer do not outweigh the cost of a call
_WORTH_THREADS = 1 << 20  # numbers to work on
_ROWS_PER_CHUNK = 8192  # more leave the caches and their translation buffers


@dataclass(frozen=True, kw_only=True)
class HeadBlock:
    """Heads begin … end − 1 of one batch item, their queries in chunks of `step`."""

    batch: int
    begin: int
    end: int
    step: int

    @property
    def heads(self) -> int:
        """Number of heads, h."""
        return self.end - self.begin

    def of(self, x: Tensor) -> Tensor:
        """The block's part of (B, L, H, …), a view: (1, h, L, …)."""
        return x[self.batch : self.batch + 1, :, self.begin : self.end].transpose(1, 2)

    def chunks(self, length: int) -> list[slice]:
        """Chunks of `length` queries."""
        return [slice(start, min(start + self.step, length)) for start in range(0, length, self.step)]


def head_blocks(selection: Selection) -> list[HeadBlock]:
    """Chunks and blocks so large that a context has enough visitors, but a block for every thread."""
    share = max(selection.budget, 1.0) / selection.layout.count  # of the queries that visit a context
    enough = round(_VISITORS_PER_CALL / share)  # rows
    pairs = selection.batch * selection.heads
    wanted = max(1, round(enough / selection.query_length))
    size = min(wanted, selection.heads, -(-pairs // torch.get_num_threads()))
    return [
        HeadBlock(
            batch=batch,
            begin=begin,
            end=min(begin + size, selection.heads),
            step=max(enough, _ROWS_PER_CHUNK),
        )
        for batch in range(selection.batch)
        for begin in range(0, selection.heads, size)
    ]


def for_each(items: Sequence[Item], work: Callable[[Item], None], *, numbers: float = math.inf) -> None:
    """Run `work` on every item, without gradients, in the threads that torch uses; in one for few `numbers`.

    Whatever can should go through here: threads that torch starts itself spin for a while after their work,
    in the way of these.
    """
    inference = torch.is_inference_mode_enabled()  # a setting of each thread

    def run(item: Item) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            work(item)

    threads = torch.get_num_threads()
    workers = min(threads, len(items))
    if workers <= 1:
        for item in items:
            run(item)
        return
    try:
        if numbers < _WORTH_THREADS:
            torch.set_num_threads(1)
            for item in items:
                run(item)
            return
        for _ in _pool(workers, max(1, threads // workers), os.getpid()).map(run, items):
            pass
    finally:
        torch.set_num_threads(threads)  # torch hands the latest setting to threads that start later


@lru_cache(maxsize=2)
def _pool(workers: int, share: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work, with `share` threads within each; anew in a forked process."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
