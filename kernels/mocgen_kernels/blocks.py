"""Cut a problem into blocks of heads and chunks of queries; work on blocks in as many threads as torch uses.

For much work, threads over heads, with few threads within each, beat those of torch within every operation.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from mocgen_kernels.selection import Selection

Item = TypeVar("Item")
_VISITORS = 1536  # of a context in a chunk: fewer do not outweigh reading its keys and values
_MOST_NUMBERS = 10_000_000  # in results of visits, of all blocks that are worked on at a time
_MOST_RESULTS = 1 << 25  # numbers in those of one chunk
_MOST_CELLS = 1 << 20  # queries times contexts, of the same
_WORTH_OURS = 1 << 31  # products of two numbers in q · k
_WORTH_THREADS = 1 << 20  # numbers to work on


@dataclass(frozen=True, kw_only=True)
class HeadBlock:
    """Some heads h of some batch items b, one or all of either; their queries in chunks of `step`."""

    items: slice
    heads: slice
    step: int

    def of(self, x: Tensor) -> Tensor:
        """The block's part of (B, L, H, …), a view: (b, L, h, …)."""
        return x[self.items, :, self.heads]

    def words(self, selection: Selection) -> Tensor:
        """Bits of the routed contexts: (b, h, Lq, W)."""
        assert selection.words is not None
        return selection.words[self.items, self.heads]

    def chunks(self, length: int) -> list[slice]:
        """Cut `length` queries into as few chunks of equal size."""
        size = -(-length // -(-length // self.step))
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def head_blocks(selection: Selection, dim: int, *, single: bool = False) -> list[HeadBlock]:
    """As many heads in a block as memory and lists allow, but a block for every thread of ours.

    Chunks are so long that contexts have enough visitors.

    dim: numbers of a query. single: one head in a block.
    """
    step = round(_VISITORS * max(32, selection.layout.count) / max(selection.budget, 1.0))
    step = max(1, min(step, int(_MOST_RESULTS / (dim * (1 + selection.budget)))))
    pairs, heads = selection.batch * selection.heads, selection.heads
    numbers, cells = _results(selection) * dim, selection.query_length * selection.layout.count
    threads = torch.get_num_threads() if worth_our_threads(selection, dim) else 1
    size = 1 if single else max(1, min(pairs, int(_MOST_NUMBERS / numbers), _MOST_CELLS // cells) // threads)
    items, some = max(1, size // heads), -(-heads // -(-heads // min(heads, size)))  # equal shares
    return [
        HeadBlock(
            items=slice(item, min(item + items, selection.batch)),
            heads=slice(head, min(head + some, heads)),
            step=step,
        )
        for item in range(0, selection.batch, items)
        for head in range(0, heads, some)
    ]


def worth_our_threads(selection: Selection, dim: int) -> bool:
    """Whether threads over heads pay: those of torch get in their way at first."""
    size = selection.layout.length / selection.layout.count
    return selection.batch * selection.heads * _results(selection) * size * dim > _WORTH_OURS


def _results(selection: Selection) -> float:
    """Visits of a head, its anchors counted as one."""
    return selection.query_length * (1 + min(selection.budget, selection.layout.count))


def for_each_block(
    selection: Selection, dim: int, work: Callable[[HeadBlock], None], *, single: bool = False
) -> None:
    """Run `work` on every block of heads, one after the other in the threads of torch, or in ours."""
    blocks = head_blocks(selection, dim, single=single)
    if worth_our_threads(selection, dim):
        for_each(blocks, work)
    else:
        for block in blocks:
            work(block)


class Scratch(threading.local):
    """Tensors that a thread uses for chunk after chunk: new pages of memory cost more than their use."""

    def __init__(self) -> None:
        self._kept = dict[str, Tensor]()

    def take(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Tensor:
        """A tensor of arbitrary numbers, valid until the thread takes the next one of this name.

        Tensors of a name share their middle, where the work of two threads of torch meets: what one core has
        written another one waits for, and these are the largest tensors there are.
        """
        kept, size = self._kept.get(name), math.prod(shape)
        if kept is None or kept.dtype is not dtype or len(kept) < size:
            with torch.inference_mode(False):  # tensors of that mode can't be written to in others
                self._kept[name] = kept = torch.empty(size, dtype=dtype, device=device)
        begin = (len(kept) - size) // 2 & -16
        return kept[begin : begin + size].view(shape)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Make glibc keep up to 62 MB of freed memory instead of fetching new pages call after call.

    It keeps twice the largest block below 32 MB that was ever mapped and freed. Most programs free one soon;
    this one is never touched, so it takes no memory.
    """
    torch.UntypedStorage(31 << 20)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """No casts within; nothing at all where they are off already, as in most programs."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def worth_threads(numbers: float) -> int:
    """How many threads pay for work on so many numbers."""
    return torch.get_num_threads() if numbers >= _WORTH_THREADS else 1


def read_in_order(x: Tensor) -> None:
    """Bring x into the caches if it fits: from memory, reading it head by head takes twice as long."""
    if x.device.type == "cpu" and worth_threads(x.numel()) == 1:
        x.sum()


def for_each(items: Sequence[Item], work: Callable[[Item], None], *, numbers: float = math.inf) -> None:
    """Run `work` on every item, in the threads that torch uses; in one for few `numbers`.

    `work` gets tensors that need no gradients, or is called where none are tracked.

    Whatever can should go through here: threads that torch starts itself spin for a while after their work,
    in the way of these.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def run(item: Item) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # a setting of each thread
            work(item)

    workers = min(worth_threads(numbers), len(items))
    try:
        if workers > 1:
            for _ in _pool(workers, max(1, threads // workers), os.getpid()).map(run, items):
                pass
            return
        if worth_threads(numbers) == 1:
            torch.set_num_threads(1)
        for item in items:
            work(item)
    finally:
        torch.set_num_threads(threads)  # torch hands the latest setting to threads that start later


@lru_cache(maxsize=2)
def _pool(workers: int, share: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work, with `share` threads within each; anew in a forked process.

    All of them have started when it returns: in its first operation a thread takes the latest setting of any.
    """
    pool, started = ThreadPoolExecutor(workers), threading.Barrier(workers)

    def start(_: int) -> None:
        started.wait()
        torch.get_num_threads()  # such an operation
        torch.set_num_threads(share)

    list(pool.map(start, range(workers)))
    return pool
