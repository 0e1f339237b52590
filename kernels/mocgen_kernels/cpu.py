"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Queries are worked on in chunks of a head or a few, so that their tensors stay in the caches. Within a chunk
the anchors are a dense pass per group of queries. Routed contexts are visited one by one (context-major): the
queries that chose the context are gathered and attend to it, and their partial results become rows of a
table. A query's output is the sum of its rows over that of their denominators. In the backward pass, with the
log-sum-exp and the output of the whole query, the gradients of each part are exact by themselves and only
have to be added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from mocgen_kernels.autograd import differentiable
from mocgen_kernels.blocks import HeadBlock, Scratch, for_each, head_blocks, keep_freed_memory
from mocgen_kernels.compensation import summaries
from mocgen_kernels.grouped import context_spans, grouped_attention
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.parts import (
    MOST_LOGITS,
    FusedQueries,
    Queries,
    Rows,
    Slopes,
    Values,
    grouped,
    is_fused,
    largest_norm,
    precise,
    widened,
)
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import Visits

_ROWS = 1024  # queries that attend to their anchors at a time
_MOST = 2.0**90  # of a denominator: beyond, the reference was too low
Keys = TypeVar("Keys")
_scratch = Scratch()  # kept from call to call


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.table is not None:
        return grouped_attention(q, k, v, selection, compensate=compensate)
    return differentiable(attend, gradients, q, k, v, selection, compensate=compensate)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    selection: Selection,
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log-sum-exp (B, Lq, H) for a selection with words.

    k_means, v_means: (B, C, H, D), with compensation.
    """
    keep_freed_memory()
    out = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty(q.shape[:3], dtype=precise(q))
    layout = selection.layout

    def work(block: HeadBlock) -> None:
        keys = _forward(block, k, v, layout, wide=not is_fused(k.dtype))
        means = None
        if k_means is not None and v_means is not None:
            means = _forward(block, k_means, v_means, layout, wide=True)
        for span in block.chunks(q.shape[1]):
            chunk = _Chunk.of(block, span, selection)
            results = (block.of(x)[0, :, span] for x in (out, lse))
            _attend(chunk, block.of(q)[0, :, span], keys, means, *results)

    for_each(head_blocks(selection), work)
    return out, lse


def gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    out: Tensor,
    lse: Tensor,
    selection: Selection,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, k_means and v_means, from what `attend` took and gave."""
    dq = torch.empty(q.shape, dtype=q.dtype)
    every = (k, v, k_means, v_means)
    sums = [None if x is None else torch.zeros(x.shape, dtype=precise(x)) for x in every]
    dk, dv, dk_means, dv_means = sums
    layout = selection.layout

    def work(block: HeadBlock) -> None:
        keys = _backward(block, k, v, dk, dv, layout)
        means = None
        if k_means is not None and v_means is not None:
            means = _backward(block, k_means, v_means, dk_means, dv_means, layout)
        for span in block.chunks(q.shape[1]):
            chunk = _Chunk.of(block, span, selection)
            rows = Rows.of(*(block.of(x)[0, :, span] for x in (q, grad, out, lse)), keys.reach)
            _add_gradients(chunk, rows, keys, means, block.of(dq)[0, :, span])

    for_each(head_blocks(selection), work)
    return dq, *(None if x is None else x.to(q.dtype) for x in sums)


@dataclass(frozen=True)
class _Heads(Generic[Keys]):
    """Keys and values of h heads, in the form in which they are needed."""

    of: Callable[[int, slice, int], Keys]  # some tokens of a head, in groups
    block: HeadBlock
    layout: ContextLayout
    reach: float  # largest norm of a key; 0 where they are not for products

    @cached_property
    def contexts(self) -> list[Keys]:
        """Every context of every head, head by head."""
        spans = [slice(*bounds) for bounds in pairwise(self.layout.offsets)]
        return [self.of(head, span, 1) for head in range(self.block.heads) for span in spans]


def _forward(block: HeadBlock, k: Tensor, v: Tensor, layout: ContextLayout, *, wide: bool) -> _Heads[Values]:
    """As the forward pass needs (B, L, H, D): for products, or not."""
    k, v = block.of(k)[0], block.of(v)[0]
    k, v = (widened(k, 1.0), v.to(precise(v)).contiguous()) if wide else (k.contiguous(), v.contiguous())
    reach = largest_norm(k[..., :-1]) if wide else 0.0

    def of(head: int, some: slice, groups: int) -> Values:
        return Values(grouped(k[head], some, groups).transpose(1, 2), grouped(v[head], some, groups))

    return _Heads(of, block, layout, reach)


def _backward(
    block: HeadBlock, k: Tensor, v: Tensor, dk: Tensor, dv: Tensor, layout: ContextLayout
) -> _Heads[Slopes]:
    """As the backward pass needs (B, L, H, D), and the sums that it adds to."""
    k, v = (widened(block.of(x)[0], 1.0) for x in (k, v))
    dk, dv = (block.of(x)[0] for x in (dk, dv))

    def of(head: int, some: slice, groups: int) -> Slopes:
        key, value, *slopes = (grouped(x[head], some, groups) for x in (k, v, dk, dv))
        return Slopes(key.transpose(1, 2), value.transpose(1, 2), key[..., :-1], *slopes)

    return _Heads(of, block, layout, largest_norm(k[..., :-1]))


class _Part(NamedTuple, Generic[Keys]):
    """Some queries of a chunk, and keys that they attend to."""

    rows: slice | Tensor  # of the chunk, counted head by head; numbers for a visit
    groups: int
    keys: Keys
    first: bool  # of the parts of these queries
    bias: Tensor | None = None  # on top of the logits


@dataclass(frozen=True)
class _Anchors:
    """Groups of equally many queries, each with as many anchors of its own, and other anchors of them all."""

    rows: slice
    own: slice
    others: list[slice]
    groups: int = 1

    def joined(self, other: _Anchors) -> _Anchors | None:
        """With a group that follows; None if it does not fit."""
        size, count = (x.stop - x.start for x in (other.rows, other.own))
        groups = self.groups + 1
        rows, own = slice(self.rows.start, other.rows.stop), slice(self.own.start, other.own.stop)
        fits = rows.stop - rows.start == groups * size and own.stop - own.start == groups * count
        few = groups * size * count <= MOST_LOGITS
        return _Anchors(rows, own, self.others, groups) if fits and few and self.others == other.others else None


@dataclass(frozen=True)
class _Chunk:
    """Q neighbouring queries of every head of a block, which are worked on together."""

    block: HeadBlock
    span: slice
    selection: Selection
    visits: Visits

    @classmethod
    def of(cls, block: HeadBlock, span: slice, selection: Selection) -> _Chunk:
        """With its visits."""
        visits = Visits.of(block.words(selection)[:, span], selection.layout.count)
        return cls(block, span, selection, visits)

    def parts(self, keys: _Heads[Keys], means: _Heads[Keys] | None) -> Iterator[_Part[Keys]]:
        """Anchors, means of skipped contexts, visits."""
        for anchors in self._anchors():
            for head in range(self.block.heads):
                rows, groups = self._rows(head, anchors.rows), anchors.groups
                yield _Part(rows, groups, keys.of(head, anchors.own, groups), first=True)
                for span in anchors.others:
                    yield _Part(rows, 1, keys.of(head, span, 1), first=False)
        if means is not None:
            for some in summaries(self.block, self.span, self.selection):
                for head, bias in enumerate(some.bias):
                    rows = self._rows(head, some.span)
                    yield _Part(rows, 1, means.of(head, slice(None), 1), first=False, bias=bias)
        for visitors, context in zip(self.visits.rows.split(self.visits.counts), keys.contexts, strict=True):
            if len(visitors):
                yield _Part(visitors, 1, context, first=True)

    def _anchors(self) -> list[_Anchors]:
        """All queries of a head, and their anchors."""
        found = list[_Anchors]()
        for group in self.selection.groups:
            start, stop = max(group.start, self.span.start), min(group.stop, self.span.stop)
            spans = context_spans(self.selection.layout, group.anchors) if start < stop else []
            own, *others = sorted((slice(*span) for span in spans), key=lambda span: span.start - span.stop) or [None]
            for begin in range(start, stop, _ROWS):
                rows = slice(begin - self.span.start, min(begin + _ROWS, stop) - self.span.start)
                anchors = _Anchors(rows, own, others)
                joined = found[-1].joined(anchors) if found else None
                found[-1:] = [joined] if joined else [*found[-1:], anchors]
        return found

    def _rows(self, head: int, some: slice) -> slice:
        first = head * (self.span.stop - self.span.start)
        return slice(first + some.start, first + some.stop)

    def table(
        self, name: str, dtype: torch.dtype, *shape: int
    ) -> tuple[Tensor, Callable[[_Part[Any]], Tensor]]:
        """A table (h · Q + n, …), and where in it the result of a part belongs, visits in their order."""
        table = _scratch.take(name, (len(self.visits.order), *shape), dtype)
        base, *parts = table.split([len(self.visits.begins), *self.visits.counts])
        visits = iter([part[None] for part in parts if len(part)])

        def place(part: _Part[Any]) -> Tensor:
            return grouped(base, part.rows, part.groups) if isinstance(part.rows, slice) else next(visits)

        return table, place


def _attend(
    chunk: _Chunk,
    q: Tensor,
    keys: _Heads[Values],
    means: _Heads[Values] | None,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Write output (h, Q, D) and log-sum-exp (h, Q) of the queries (h, Q, D) of a chunk."""
    queries = Queries.of(q, keys.reach)
    sums, total = _sums(chunk, queries, keys, means)
    if not bool(total.amax() < _MOST):
        _raise_references(chunk, queries, keys, means)
        sums, total = _sums(chunk, queries, keys, means, referenced=True)
    torch.div(sums.view(q.shape), total.view(*lse.shape, 1), out=out)
    torch.sub(total.log_().view(lse.shape), queries.shift.view(lse.shape), out=lse)


def _sums(
    chunk: _Chunk,
    queries: Queries | FusedQueries,
    keys: _Heads[Values],
    means: _Heads[Values] | None,
    *,
    referenced: bool = False,
) -> tuple[Tensor, Tensor]:
    """Numerators (h · Q, D) and denominators (h · Q,); references are set before, unless they are."""
    visits, dtype = chunk.visits, queries.shift.dtype
    table, numerators = chunk.table("table", dtype, keys.contexts[0].v.shape[-1])
    totals, denominators = chunk.table("totals", dtype)
    for part in chunk.parts(keys, means):
        some, places = queries.take(part.rows, part.groups), (numerators(part), denominators(part))
        if not part.first:
            some.add(part.keys, part.bias, *places)
        elif isinstance(part.rows, slice) and not referenced:
            some.begin(part.keys, *places)
        else:
            some.write(part.keys, *places)
    length = len(visits.begins)
    return visits.sums(table), totals[:length].index_add(0, visits.rows, totals[length:])


def _raise_references(
    chunk: _Chunk, queries: Queries | FusedQueries, keys: _Heads[Values], means: _Heads[Values] | None
) -> None:
    """Make the references of a chunk no less than the highest logits."""
    excess = torch.zeros_like(queries.shift)
    for part in chunk.parts(keys, means):
        peaks = queries.take(part.rows, part.groups).peaks(part.keys, part.bias).view(-1)
        if isinstance(part.rows, slice):
            torch.maximum(excess[part.rows], peaks, out=excess[part.rows])
        else:
            excess.scatter_reduce_(0, part.rows, peaks, "amax")
    queries.shift.sub_(excess)


def _add_gradients(
    chunk: _Chunk, rows: Rows, keys: _Heads[Slopes], means: _Heads[Slopes] | None, dq: Tensor
) -> None:
    """Write dq (h, Q, D) of the queries of a chunk; add what they contribute to other gradients."""
    table, place = chunk.table("table", rows.q.dtype, dq.shape[2])
    for part in chunk.parts(keys, means):
        some = rows.take(part.rows, part.groups)
        if part.first:
            some.write(part.keys, place(part))
        else:
            some.add(part.keys, part.bias, place(part))
    torch.mul(chunk.visits.sums(table).view(dq.shape), dq.shape[2] ** -0.5, out=dq)
