"""Turn routed bits around: for every context, the queries that chose it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

_RADIX_FROM = 1 << 15  # torch sorts lists of integers from this length on by digits, ten times faster


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Who chose what among the Q queries of each of h heads: n pairs of row and context.

    Rows are counted head by head, and so are contexts. Parts of the results lie in a table of h · Q + n rows:
    one per row for its anchors, then one per pair, context by context.
    """

    counts: list[int]  # visitors of every context, h · C
    rows: Tensor  # (n,) int64: the visitors, context by context, ascending
    order: Tensor  # (h · Q + n,) int64: rows of the table, query by query, anchors first
    begins: Tensor  # (h · Q,) int64: where each query begins in `order`

    @classmethod
    def of(cls, words: Tensor, count: int) -> Visits:
        """From bits (h, Q, W) over `count` contexts."""
        heads, width = words.shape[0], words.shape[2] * 4  # octets of a query
        length, count = heads * words.shape[1], heads * count
        octets = words.contiguous().view(torch.uint8).view(-1).long()  # least significant first
        numbers, positions = _octets()
        ones = numbers.index_select(0, octets)
        owners = torch.repeat_interleave(ones)  # octet of every pair
        number = torch.arange(length + len(owners))
        begins = octets.mul_(8).sub_(ones.cumsum(0)).add_(ones)  # in `positions`, less the pairs before
        bits = positions.index_select(0, begins.index_select(0, owners).add_(number[: len(owners)]))
        chosen = ones.view(-1, width).sum(dim=1)  # (h · Q,)
        queries = torch.repeat_interleave(chosen)
        contexts = owners.sub_(queries * width).mul_(8).add_(bits)
        if heads > 1:
            contexts.add_(queries.div(words.shape[1], rounding_mode="floor").mul_(count // heads))
        by_context = _argsort(contexts, count)
        begins = chosen.cumsum(0).sub_(chosen).add_(number[:length])
        order = torch.empty_like(number)
        order.scatter_(0, begins, number[:length])
        places = queries + number[1 : len(queries) + 1]  # of the pairs in `order`, query by query
        order.scatter_(0, places.index_select(0, by_context), number[length:])
        return cls(
            counts=torch.bincount(contexts, minlength=count).tolist(),
            rows=queries.index_select(0, by_context),
            order=order,
            begins=begins,
        )

    def sums(self, table: Tensor) -> Tensor:
        """Sum of every query's rows of the table (h · Q + n, D): (h · Q, D)."""
        return embedding_bag(self.order, table, self.begins, mode="sum")


@lru_cache(maxsize=1)
def _octets() -> tuple[Tensor, Tensor]:
    """Of every octet: how many bits are set (256,), and which, ascending, eight places each (256 · 8,)."""
    bits = (torch.arange(256)[:, None] >> torch.arange(8)).bitwise_and_(1)
    return bits.sum(dim=1), bits.argsort(dim=1, descending=True, stable=True).view(-1)


def _argsort(x: Tensor, bound: int) -> Tensor:
    """Stable ascending order of integers (n,) from 0 to bound − 1."""
    dtype = torch.int16 if bound < 1 << 15 else torch.int32
    padding = max(0, _RADIX_FROM - len(x)) if len(x) > _RADIX_FROM // 8 else 0
    return pad(x.to(dtype), (0, padding), value=bound).sort(stable=True).indices[: len(x)]
