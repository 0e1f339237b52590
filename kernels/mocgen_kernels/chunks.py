"""What a chunk of queries attends to, part by part: anchors, means of skipped contexts, routed contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from mocgen_kernels.blocks import HeadBlock
from mocgen_kernels.compensation import summaries
from mocgen_kernels.grouped import context_spans
from mocgen_kernels.key_order import KeyOrder
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.parts import (
    MOST_LOGITS,
    Slopes,
    Values,
    in_groups,
    precise,
    scratch,
    widened,
    with_rows,
)
from mocgen_kernels.rules import Routing, query_groups
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import Visits

_ROWS = 1024  # queries that attend to their anchors at a time
Keys = TypeVar("Keys")
Source = Callable[[slice, int], Keys]  # some rows, in groups


def values_of(k: Tensor, v: Tensor, *, referenced: bool = False) -> Source[Values]:
    """Keys and values (n, D) for the forward pass; `referenced`: for products, as `Values.with_row`."""
    k, v = (widened(k, 1.0), v.to(precise(v))) if referenced else (with_rows(k), with_rows(v))

    def of(some: slice, groups: int) -> Values:
        return Values(in_groups(k, some, groups).transpose(1, 2), in_groups(v, some, groups))

    return of


def slopes_of(k: Tensor, v: Tensor, dk: Tensor, dv: Tensor) -> Source[Slopes]:
    """Keys and values (n, D) for the backward pass, and the sums that it adds to."""
    k, v = (widened(x, 1.0) for x in (k, v))

    def of(some: slice, groups: int) -> Slopes:
        key, value, *slopes = (in_groups(x, some, groups) for x in (k, v, dk, dv))
        return Slopes(key.transpose(1, 2), value.transpose(1, 2), key[..., :-1], *slopes)

    return of


class Part(NamedTuple, Generic[Keys]):
    """Some queries of a chunk, and keys that they attend to."""

    rows: slice | Tensor  # of the chunk, counted head by head; numbers for visits
    groups: int
    keys: Keys
    first: bool  # of the parts of these queries
    bias: Tensor | None = None  # on top of the logits


@dataclass(frozen=True)
class Anchors:
    """Groups of equally many queries, each with as many anchors of its own, and other anchors of them all."""

    rows: slice
    own: slice
    others: list[slice]
    groups: int = 1

    def joined(self, other: Anchors) -> Anchors | None:
        """With a group that follows; None if it does not fit."""
        size, count = (x.stop - x.start for x in (other.rows, other.own))
        groups = self.groups + 1
        rows, own = _joint(self.rows, other.rows, groups), _joint(self.own, other.own, groups)
        alike = self.others == other.others and groups * size * count <= MOST_LOGITS
        return Anchors(rows, own, self.others, groups) if alike and rows and own else None


def _joint(some: slice, last: slice, groups: int) -> slice | None:
    """Groups of equal size and the one that follows them; None if it does not, or has another size."""
    size = last.stop - last.start
    fits = some.stop == last.start and some.stop - some.start == (groups - 1) * size
    return slice(some.start, last.stop) if fits else None


@dataclass(frozen=True)
class Chunk:
    """Q neighbouring queries of every head of a block, which are worked on together.

    Those of one head attend to their anchors in dense passes; with several heads anchors are visited too.
    """

    block: HeadBlock
    span: slice
    selection: Selection
    visits: Visits

    @classmethod
    def of(cls, block: HeadBlock, span: slice, selection: Selection, keys: KeyOrder) -> Chunk:
        """With its visits."""
        words = block.words(selection)[:, :, span]
        if keys.heads == 1:
            return cls(block, span, selection, Visits.of(words[0, 0], keys))
        key = tuple((x.start, x.stop) for x in (block.items, block.heads, span))
        if key not in selection.kept:
            selection.kept[key] = Visits.of_all(words | selection.anchor_words[span], keys)
        return cls(block, span, selection, selection.kept[key])

    def parts(self, keys: Source[Keys], means: Source[Keys] | None) -> Iterator[Part[Keys]]:
        """Anchors, means of skipped contexts, visits."""
        if self.visits.begins is not None:
            selection = self.selection
            first, span = selection.first_query_context, self.span
            for some in _anchors(selection.layout, first, selection.routing, span.start, span.stop):
                yield Part(some.rows, some.groups, keys(some.own, some.groups), first=True)
                for other in some.others:
                    yield Part(some.rows, 1, keys(other, 1), first=False)
        if means is not None:
            for skipped in summaries(self.block, self.span, self.selection):
                yield Part(skipped.span, 1, means(slice(None), 1), first=False, bias=skipped.bias)
        for batch in self.visits.batches:
            visitors = self.visits.visitors[batch.slots]
            yield Part(visitors, batch.groups, keys(batch.keys, batch.groups), first=True)

    def table(
        self, name: str, dtype: torch.dtype, *shape: int
    ) -> tuple[Tensor, Callable[[Part[Any]], Tensor]]:
        """A table as `Visits` has it, (·, …), and where in it the result of a part belongs, in order."""
        length = self.visits.others
        table = scratch.take(name, (length + len(self.visits.visitors), *shape), dtype)
        table[:1] = 0  # where there is no pair, if not overwritten
        visits = iter(self.visits.batches)

        def place(part: Part[Any]) -> Tensor:
            if isinstance(part.rows, slice):
                return in_groups(table[:length], part.rows, part.groups)
            return in_groups(table[length:], next(visits).slots, part.groups)

        return table, place


@lru_cache(maxsize=256)
def _anchors(layout: ContextLayout, first: int, routing: Routing, begin: int, end: int) -> list[Anchors]:
    """Queries begin … end − 1 and their anchors, groups that are alike together; rows from 0 on."""
    found = list[Anchors]()
    for group in query_groups(layout, first, routing):
        spans = [slice(*span) for span in context_spans(layout, group.anchors)]
        own, *others = sorted(spans, key=lambda span: span.start - span.stop)
        stop = min(group.stop, end)
        for start in range(max(group.start, begin), stop, _ROWS):
            rows = slice(start - begin, min(start + _ROWS, stop) - begin)
            anchors = Anchors(rows, own, others)
            joined = found[-1].joined(anchors) if found else None
            found[-1:] = [joined] if joined else [*found[-1:], anchors]
    return found
