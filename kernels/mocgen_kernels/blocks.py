"""Cut a problem into blocks of heads and chunks of queries; work on blocks in as many threads as torch uses.

Threads over heads, with few threads within each, beat threads within one head's small operations.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from mocgen_kernels.selection import Selection

Item = TypeVar("Item")
_VISITORS = 384  # of a context in a chunk: fewer do not outweigh reading its keys and values
_WORTH_THREADS = 1 << 20  # numbers to work on


@dataclass(frozen=True)
class Head:
    """One head of one batch item."""

    batch: int
    head: int

    def of(self, x: Tensor) -> Tensor:
        """The head's part of (B, L, H, …), a view: (1, 1, L, …)."""
        return x[self.batch : self.batch + 1, :, self.head : self.head + 1].transpose(1, 2)

    def words(self, selection: Selection) -> Tensor:
        """Bits of the routed contexts: (Lq, W)."""
        assert selection.words is not None
        return selection.words[self.batch, self.head]


def heads(selection: Selection) -> list[Head]:
    """All heads of all batch items."""
    return [Head(batch, head) for batch in range(selection.batch) for head in range(selection.heads)]


def chunks(selection: Selection) -> list[slice]:
    """Queries in chunks, few enough for the caches but so many that a context has enough visitors."""
    step = max(1, round(_VISITORS * selection.layout.count / max(selection.budget, 1.0)))
    length = selection.query_length
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


class Scratch(threading.local):
    """Tensors that a thread uses for chunk after chunk: new pages of memory cost more than their use."""

    def __init__(self) -> None:
        self._kept = dict[str, Tensor]()

    def take(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Tensor:
        """A tensor of arbitrary numbers, valid until the thread takes the next one of this name."""
        kept, size = self._kept.get(name), math.prod(shape)
        if kept is None or kept.dtype is not dtype or len(kept) < size:
            self._kept[name] = kept = torch.empty(size, dtype=dtype, device=device)
        return kept[:size].view(shape)


def worth_threads(numbers: float) -> int:
    """How many threads pay for work on so many numbers."""
    return torch.get_num_threads() if numbers >= _WORTH_THREADS else 1


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
    workers = min(worth_threads(numbers), len(items))
    try:
        if workers > 1:
            for _ in _pool(workers, max(1, threads // workers), os.getpid()).map(run, items):
                pass
            return
        if worth_threads(numbers) == 1:
            torch.set_num_threads(1)
        for item in items:
            run(item)
    finally:
        torch.set_num_threads(threads)  # torch hands the latest setting to threads that start later


@lru_cache(maxsize=2)
def _pool(workers: int, share: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work, with `share` threads within each; anew in a forked process."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
