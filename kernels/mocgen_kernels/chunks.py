"""What a chunk of queries attends to, part by part: anchors, means of skipped contexts, routed contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from mocgen_kernels.blocks import HeadBlock
from mocgen_kernels.compensation import summaries
from mocgen_kernels.grouped import context_spans
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
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import Visits

_ROWS = 1024  # queries that attend to their anchors at a time
Keys = TypeVar("Keys")


@dataclass(frozen=True)
class Heads(Generic[Keys]):
    """Keys and values of h heads, in the form in which they are needed."""

    of: Callable[[int, slice, int], Keys]  # some tokens of a head, in groups
    block: HeadBlock
    layout: ContextLayout

    @cached_property
    def contexts(self) -> list[Keys]:
        """Every context of every head, head by head."""
        spans = [slice(*bounds) for bounds in pairwise(self.layout.offsets)]
        return [self.of(head, span, 1) for head in range(self.block.heads) for span in spans]


def values_of(
    block: HeadBlock, k: Tensor, v: Tensor, layout: ContextLayout, *, referenced: bool = False
) -> Heads[Values]:
    """As the forward pass needs (B, L, H, D); for products with queries that may have references, or not."""
    k, v = (with_rows(block.of(x)[0]) for x in (k, v))
    k, v = (widened(k, 1.0), v.to(precise(v))) if referenced else (k, v)

    def of(head: int, some: slice, groups: int) -> Values:
        return Values(in_groups(k[head], some, groups).transpose(1, 2), in_groups(v[head], some, groups))

    return Heads(of, block, layout)


def slopes_of(
    block: HeadBlock, k: Tensor, v: Tensor, dk: Tensor, dv: Tensor, layout: ContextLayout
) -> Heads[Slopes]:
    """As the backward pass needs (B, L, H, D), and the sums that it adds to."""
    k, v = (widened(block.of(x)[0], 1.0) for x in (k, v))
    dk, dv = (block.of(x)[0] for x in (dk, dv))

    def of(head: int, some: slice, groups: int) -> Slopes:
        key, value, *slopes = (in_groups(x[head], some, groups) for x in (k, v, dk, dv))
        return Slopes(key.transpose(1, 2), value.transpose(1, 2), key[..., :-1], *slopes)

    return Heads(of, block, layout)


class Part(NamedTuple, Generic[Keys]):
    """Some queries of a chunk, and keys that they attend to."""

    rows: slice | Tensor  # of the chunk, counted head by head; numbers for a visit
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
        rows, own = slice(self.rows.start, other.rows.stop), slice(self.own.start, other.own.stop)
        fits = rows.stop - rows.start == groups * size and own.stop - own.start == groups * count
        few = groups * size * count <= MOST_LOGITS
        alike = fits and few and self.others == other.others
        return Anchors(rows, own, self.others, groups) if alike else None


@dataclass(frozen=True)
class Chunk:
    """Q neighbouring queries of every head of a block, which are worked on together."""

    block: HeadBlock
    span: slice
    selection: Selection
    visits: Visits

    @classmethod
    def of(cls, block: HeadBlock, span: slice, selection: Selection) -> Chunk:
        """With its visits."""
        visits = Visits.of(block.words(selection)[:, span], selection.layout.count)
        return cls(block, span, selection, visits)

    def parts(self, keys: Heads[Keys], means: Heads[Keys] | None) -> Iterator[Part[Keys]]:
        """Anchors, means of skipped contexts, visits."""
        for anchors in self._anchors():
            for head in range(self.block.heads):
                rows, groups = self._rows(head, anchors.rows), anchors.groups
                yield Part(rows, groups, keys.of(head, anchors.own, groups), first=True)
                for span in anchors.others:
                    yield Part(rows, 1, keys.of(head, span, 1), first=False)
        if means is not None:
            for some in summaries(self.block, self.span, self.selection):
                for head, bias in enumerate(some.bias):
                    rows = self._rows(head, some.span)
                    yield Part(rows, 1, means.of(head, slice(None), 1), first=False, bias=bias)
        for visitors, context in zip(self.visits.rows.split(self.visits.counts), keys.contexts, strict=True):
            if len(visitors):
                yield Part(visitors, 1, context, first=True)

    def _anchors(self) -> list[Anchors]:
        """All queries of a head and their anchors, groups that are alike together."""
        found = list[Anchors]()
        for group in self.selection.groups:
            start, stop = max(group.start, self.span.start), min(group.stop, self.span.stop)
            if start >= stop:
                continue
            spans = [slice(*span) for span in context_spans(self.selection.layout, group.anchors)]
            own, *others = sorted(spans, key=lambda span: span.start - span.stop)
            for begin in range(start, stop, _ROWS):
                rows = slice(begin - self.span.start, min(begin + _ROWS, stop) - self.span.start)
                anchors = Anchors(rows, own, others)
                joined = found[-1].joined(anchors) if found else None
                found[-1:] = [joined] if joined else [*found[-1:], anchors]
        return found

    def _rows(self, head: int, some: slice) -> slice:
        first = head * (self.span.stop - self.span.start)
        return slice(first + some.start, first + some.stop)

    def table(
        self, name: str, dtype: torch.dtype, *shape: int
    ) -> tuple[Tensor, Callable[[Part[Any]], Tensor]]:
        """A table (h · Q + n, …), and where in it the result of a part belongs, visits in their order."""
        table = scratch.take(name, (len(self.visits.order), *shape), dtype)
        base, *parts = table.split([len(self.visits.begins), *self.visits.counts])
        visits = iter([part[None] for part in parts if len(part)])

        def place(part: Part[Any]) -> Tensor:
            return in_groups(base, part.rows, part.groups) if isinstance(part.rows, slice) else next(visits)

        return table, place
