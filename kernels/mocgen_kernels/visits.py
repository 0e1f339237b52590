"""Turn routed bits around: for every context, the queries that chose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from mocgen_kernels.key_order import KeyOrder
from mocgen_kernels.parts import MOST_LOGITS
from mocgen_kernels.selection import WORD_BITS

_RADIX_FROM = 1 << 15  # torch sorts lists of integers from this length on by digits, ten times faster
_PAIRS_PER_CALL = 1 << 11  # that cost as much as another call
_WASTE = 0.1  # of padding, that lists of chance differences need


class Batch(NamedTuple):
    """Contexts of equal length that follow each other, with the queries that visit them."""

    keys: slice  # rows of the key order
    groups: int  # contexts
    slots: slice  # of every context equally many: its visitors, then empty ones


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Who visits what among N queries: pairs of a query and a context of its head.

    Parts of the results lie in a table: some rows that are not for visits, then one per slot.
    """

    batches: list[Batch]
    visitors: Tensor  # (slots,) int64: ascending in each context; N in empty slots
    others: int  # rows of the table before those of slots
    order: Tensor  # rows of the table, query by query: (n,) int64, or equally many for each, (N, C) int32
    begins: Tensor | None  # (N,) int64: where each query begins in `order`

    @classmethod
    def of_all(cls, words: Tensor, keys: KeyOrder) -> Visits:
        """From bits of all that is attended to, (b, h, Q, W), queries counted in the order b, Q, h.

        Looks at every query and context, which is fast where a good part of them are pairs. One row of the
        table is not for visits; it is to hold zeros.
        """
        words, layout = words.permute(3, 0, 2, 1).contiguous(), keys.layout
        numbers, bits = _words_and_bits(keys)
        attended = (words.index_select(0, numbers) & bits).ne(0)  # (C, b, Q, h)
        ranks = attended.cumsum(2)  # the place of a query in its list, from 1 on
        counts, threads = ranks[:, :, -1].flatten().tolist(), torch.get_num_threads()
        batches, starts = _batches(counts, keys.lengths, MOST_LOGITS, _PAIRS_PER_CALL, threads)
        firsts = torch.tensor(starts, device="cpu").view(layout.count, len(words[0]), 1, -1)
        slots = ranks.add_(firsts).mul_(attended).view(layout.count, -1)  # from 1 on; 0: no pair
        count = slots.shape[1]
        visitors = torch.full((1 + (batches[-1].slots.stop if batches else 0),), count, device="cpu")
        visitors.scatter_(0, slots.view(-1), _repeated(count, layout.count))
        return cls(
            batches=batches,
            visitors=visitors[1:],
            others=1,
            order=torch.stack(slots.to(torch.int32).unbind(), dim=1),
            begins=None,
        )

    @classmethod
    def of(cls, words: Tensor, keys: KeyOrder) -> Visits:
        """From bits of what one head is routed to, (Q, W), for a table that begins with a row per query."""
        length, width, count = len(words), words.shape[1] * 4, keys.layout.count  # octets of a query
        octets = words.contiguous().view(torch.uint8).view(-1).long()  # least significant first
        numbers, positions = _octets()
        ones = numbers.index_select(0, octets)
        owners = torch.repeat_interleave(ones)  # octet of every pair
        number = torch.arange(length + len(owners), device="cpu")
        places = octets.mul_(8).sub_(ones.cumsum(0)).add_(ones)  # in `positions`, less the pairs before
        bits = positions.index_select(0, places.index_select(0, owners).add_(number[: len(owners)]))
        chosen = ones.view(-1, width).sum(dim=1)  # (Q,)
        queries = torch.repeat_interleave(chosen)
        contexts = owners.sub_(queries * width).mul_(8).add_(bits)
        by_context = _argsort(contexts, count)
        counts = torch.bincount(contexts, minlength=count)
        half = MOST_LOGITS // 2  # other threads have as many, and calls wait for them
        batches, starts = _batches(counts.tolist(), keys.lengths, half, 8 * _PAIRS_PER_CALL, 1)
        shifts = (
            torch.tensor(starts, device="cpu").sub_(counts.cumsum(0)).add_(counts)
        )  # of slots against pairs
        slots = torch.repeat_interleave(shifts, counts).add_(number[: len(owners)])
        visitors = torch.full((batches[-1].slots.stop if batches else 0,), length, device="cpu")
        visitors.scatter_(0, slots, queries.index_select(0, by_context))
        begins = chosen.cumsum(0).sub_(chosen).add_(number[:length])
        order = torch.empty_like(number)
        order.scatter_(0, begins, number[:length])
        places = queries + number[1 : len(queries) + 1]  # of the pairs in `order`, query by query
        order.scatter_(0, places.index_select(0, by_context), slots.add_(length))
        return cls(batches=batches, visitors=visitors, others=length, order=order, begins=begins)

    def sums(self, table: Tensor) -> Tensor:
        """Sum of every query's rows of the table (·, D): (N, D)."""
        return embedding_bag(self.order, table, self.begins, mode="sum")


def _batches(
    counts: Sequence[int], lengths: Sequence[int], logits: int, worth: int, threads: int
) -> tuple[list[Batch], list[int]]:
    """Cut contexts where more padding would cost more than other calls; the first slot of each.

    logits: at most so many in a batch of several contexts. worth: pairs that cost as much as a call.
    threads: that work on a batch, each on whole contexts, see `parts.add_products`.
    """
    found, starts, offsets = list[Batch](), [0] * len(counts), [0, *accumulate(lengths)]
    begin = 0
    while begin < len(counts):
        end, most, total, size = begin + 1, counts[begin], counts[begin], lengths[begin]
        while most and end < len(counts) and counts[end] and lengths[end] == size:
            groups, room = end + 1 - begin, max(most, counts[end])
            wasted = groups * room - total - counts[end] - _WASTE * total
            if groups * room * size > logits or wasted * size > worth * (groups - 1):
                break
            end, most, total = end + 1, room, total + counts[end]
        if (groups := end - begin) > threads and groups % threads:
            end -= groups % threads
            most = max(counts[begin:end])
        if most:
            slot = found[-1].slots.stop if found else 0
            stop = slot + (end - begin) * most
            starts[begin:end] = range(slot, stop, most)
            keys = slice(offsets[begin], offsets[end])
            found.append(Batch(keys=keys, groups=end - begin, slots=slice(slot, stop)))
        begin = end
    return found, starts


@lru_cache(maxsize=16)
def _words_and_bits(keys: KeyOrder) -> tuple[Tensor, Tensor]:
    """The word (C,) and the bit (C, 1, 1, 1) of every context, in the order of keys. Do not write to them."""
    contexts = torch.tensor([context for run in keys.runs for context in run], device="cpu")
    bits = torch.ones((), dtype=torch.int32, device="cpu") << (contexts % WORD_BITS).to(torch.int32)
    return contexts // WORD_BITS, bits[:, None, None, None]


@lru_cache(maxsize=4)
def _repeated(number: int, times: int) -> Tensor:
    """0 … number − 1, so many times: (times · number,) int64. Do not write to it."""
    return torch.arange(number, device="cpu").repeat(times)


@lru_cache(maxsize=1)
def _octets() -> tuple[Tensor, Tensor]:
    """Of every octet: how many bits are set (256,), and which, ascending, eight places each (256 · 8,)."""
    bits = (torch.arange(256, device="cpu")[:, None] >> torch.arange(8, device="cpu")).bitwise_and_(1)
    return bits.sum(dim=1), bits.argsort(dim=1, descending=True, stable=True).view(-1)


def _argsort(x: Tensor, bound: int) -> Tensor:
    """Stable ascending order of integers (n,) from 0 to bound − 1."""
    dtype = torch.int16 if bound < 1 << 15 else torch.int32
    padding = max(0, _RADIX_FROM - len(x)) if len(x) > _RADIX_FROM // 8 else 0
    return pad(x.to(dtype), (0, padding), value=bound).sort(stable=True).indices[: len(x)]
