"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Queries are worked on in chunks, of one head or, for short sequences, of several, which bounds the memory.
Contexts are visited (context-major): the queries that chose a context are gathered and attend to it, contexts
of equal length at once, and their partial results become rows of a table. Anchors are a dense pass per group
of queries, or with several heads are visited too. A query's output is the sum of its rows over that of their
denominators. In the backward pass, with the log-sum-exp and the output of the whole query, the gradients of
each part are exact by themselves and only have to be added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from mocgen_kernels.autograd import differentiable
from mocgen_kernels.blocks import HeadBlock, for_each_block, keep_freed_memory
from mocgen_kernels.chunks import Chunk, Source, slopes_of, values_of
from mocgen_kernels.grouped import grouped_attention
from mocgen_kernels.key_order import KeyOrder
from mocgen_kernels.parts import (
    FusedQueries,
    Queries,
    Rows,
    Slopes,
    Values,
    are_sound,
    is_fused,
    largest_norm,
    precise,
)
from mocgen_kernels.selection import Selection


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
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:3], dtype=precise(q))

    def work(block: HeadBlock) -> None:
        order = KeyOrder.of(selection.layout, block.of(lse)[:, 0].numel())
        rows, means = [order.rows(block.of(x)) for x in (k, v)], None
        keys, referenced = values_of(*rows), cache(lambda: values_of(*rows, referenced=not is_fused(k.dtype)))
        if k_means is not None and v_means is not None:
            means = values_of(*(block.of(x)[0, :, 0] for x in (k_means, v_means)), referenced=True)
        for span in block.chunks(q.shape[1]):
            chunk = Chunk.of(block, span, selection, order)
            some, *results = (block.of(x)[:, span] for x in (q, out, lse))
            _attend(chunk, some, keys, referenced, means, *results)

    for_each_block(selection, q.shape[-1], work, single=k_means is not None)
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
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    dk_means, dv_means = (None if x is None else _zeros(x) for x in (k_means, v_means))

    def work(block: HeadBlock) -> None:
        order = KeyOrder.of(selection.layout, block.of(lse)[:, 0].numel())
        rows, means = [order.rows(block.of(x)) for x in (k, v)], None
        slopes = [_zeros(x) for x in rows]
        keys, reach = slopes_of(*rows, *slopes), largest_norm(rows[0])
        if k_means is not None and v_means is not None and dk_means is not None and dv_means is not None:
            means = slopes_of(*(block.of(x)[0, :, 0] for x in (k_means, v_means, dk_means, dv_means)))
        for span in block.chunks(q.shape[1]):
            chunk = Chunk.of(block, span, selection, order)
            *some, place = (block.of(x)[:, span] for x in (q, grad, out, lse, dq))
            _add_gradients(chunk, Rows.of(*some, reach=reach), keys, means, place)
        for slope, x in zip(slopes, (dk, dv), strict=True):
            order.write(slope, block.of(x))

    for_each_block(selection, q.shape[-1], work, single=k_means is not None)
    return dq, dk, dv, *(None if x is None else x.to(q.dtype) for x in (dk_means, dv_means))


def _zeros(x: Tensor) -> Tensor:
    return x.new_zeros(x.shape, dtype=precise(x))


def _attend(
    chunk: Chunk,
    q: Tensor,
    keys: Source[Values],
    referenced: Callable[[], Source[Values]],
    means: Source[Values] | None,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Write output (b, Q, h, D) and log-sum-exp (b, Q, h) of the queries (b, Q, h, D) of a chunk.

    referenced: gives the keys for queries with references.
    """
    queries = Queries.of(q)
    sums, total = _sums(chunk, queries, keys, means, dim=q.shape[-1])
    if not are_sound(total):
        queries = queries.relative_to(_peaks(chunk, queries, keys, means))
        sums, total = _sums(chunk, queries, referenced(), means, dim=q.shape[-1])
    torch.div(sums.view(q.shape), total.view(*lse.shape, 1), out=out)
    torch.add(total.log_().view(lse.shape), queries.reference.view(lse.shape), out=lse)


def _sums(
    chunk: Chunk,
    queries: Queries | FusedQueries,
    keys: Source[Values],
    means: Source[Values] | None,
    *,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """Numerators (N, D) and denominators (N,)."""
    visits, dtype = chunk.visits, queries.reference.dtype
    table, numerators = chunk.table("table", dtype, dim)
    totals, denominators = chunk.table("totals", dtype)
    for part in chunk.parts(keys, means):
        some, places = queries.take(part.rows, part.groups), (numerators(part), denominators(part))
        if part.first:
            some.write(part.keys, *places)
        else:
            some.add(part.keys, part.bias, *places)
    others, slots = totals.split([visits.others, len(visits.visitors)])
    total = totals.new_zeros(len(queries.q) + 1).index_add_(0, visits.visitors, slots)[:-1]
    return visits.sums(table), total.add_(others)


def _peaks(
    chunk: Chunk, queries: Queries | FusedQueries, keys: Source[Values], means: Source[Values] | None
) -> Tensor:
    """The highest logits, or somewhat more: (N,)."""
    highest = queries.q.new_full((len(queries.q) + 1,), -torch.inf, dtype=queries.reference.dtype)
    for part in chunk.parts(keys, means):
        peaks = queries.take(part.rows, part.groups).peaks(part.keys, part.bias).view(-1)
        if isinstance(part.rows, slice):
            torch.maximum(highest[part.rows], peaks, out=highest[part.rows])
        else:
            highest.scatter_reduce_(0, part.rows, peaks, "amax")
    return highest[:-1]


def _add_gradients(
    chunk: Chunk, rows: Rows, keys: Source[Slopes], means: Source[Slopes] | None, dq: Tensor
) -> None:
    """Write dq (b, Q, h, D) of the queries of a chunk; add what they contribute to other gradients."""
    table, place = chunk.table("table", rows.q.dtype, dq.shape[-1])
    for part in chunk.parts(keys, means):
        some = rows.take(part.rows, part.groups)
        if part.first:
            some.write(part.keys, place(part))
        else:
            some.add(part.keys, part.bias, place(part))
    torch.mul(chunk.visits.sums(table).view(dq.shape), dq.shape[-1] ** -0.5, out=dq)
