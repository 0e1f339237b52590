"""Attention to all contexts at once, for short sequences: a few large calls instead of many small ones.

Every context, anchor or routed, is attended to by the queries that want it. Contexts of equal length are one
batch, over heads and batch items, their queries padded to the longest list; so a few large calls compute the
parts of all queries. A query's output is the sum of its parts. The backward pass goes the
same way, with the output and the log-sum-exp of whole rows. Nothing waits for Python context by
context, which is what small work in several threads suffers from.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from mocgen_kernels.autograd import differentiable
from mocgen_kernels.blocks import keep_freed_memory
from mocgen_kernels.grouped import context_spans, gather_contexts
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.lists import Batch, Lists
from mocgen_kernels.parts import (
    LOG2_E,
    FusedQueries,
    Queries,
    Rows,
    Slopes,
    Values,
    are_sound,
    largest_norm,
    precise,
    widened,
    with_rows,
)
from mocgen_kernels.selection import Selection

MOST_NUMBERS = 1 << 22  # of queries that are gathered at a time


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    return differentiable(attend, gradients, q, k, v, selection, compensate=False)


def attend(
    q: Tensor, k: Tensor, v: Tensor, k_means: Tensor | None, v_means: Tensor | None, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log-sum-exp (B, Lq, H) for a selection with words."""
    keep_freed_memory()
    queries, lists = Queries.of(q.reshape(1, -1, q.shape[-1])), selection.lists
    sums, total = _sums(queries, k, v, selection)
    if not are_sound(total):
        peaks = torch.empty(lists.count, dtype=total.dtype)
        for some, batch, values in _batches(k, v, selection):
            peaks[some] = queries.take(batch.rows, len(values.v)).peaks(values, None).view(-1)
        peaks[0] = -torch.inf  # where there is no part
        queries = queries.relative_to(_of_slots(peaks, lists).amax(dim=0))
        sums, total = _sums(queries, k, v, selection)
    out = sums.div_(total[:, None]).view(q.shape).to(q.dtype)
    return out, total.log2().mul_(1 / LOG2_E).add_(queries.reference).view(q.shape[:3])


def _sums(
    queries: Queries | FusedQueries, k: Tensor, v: Tensor, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Numerators (N, D) and denominators (N,)."""
    lists = selection.lists
    table, totals = (torch.empty(lists.count, *shape, dtype=precise(k)) for shape in (k.shape[-1:], ()))
    for some, batch, values in _batches(k, v, selection, referenced=queries.referenced):
        groups = len(values.v)
        places = (x[some].unflatten(0, (groups, -1)) for x in (table, totals))
        queries.take(batch.rows, groups).write(values, *places)
    table[0], totals[0] = 0, 0  # where there is no part
    return _of_parts(table, lists), _of_slots(totals, lists).sum(dim=0)


def _batches(
    k: Tensor, v: Tensor, selection: Selection, *, referenced: bool = False
) -> Iterator[tuple[slice, Batch, Values]]:
    """Every batch: its slots, and its keys and values in groups, one per batch item, context and head."""
    begin = 0
    for batch in selection.lists.batches:
        key, value = (_tokens(x, selection.layout, batch).transpose(1, 2).flatten(0, 1) for x in (k, v))
        key = widened(key, 1.0) if referenced else key
        some = slice(begin, begin + len(batch.rows))
        yield some, batch, Values(key.transpose(1, 2), value)
        begin = some.stop


def _of_slots(x: Tensor, lists: Lists) -> Tensor:
    """Of every context and query, what its slot holds: (slots,) → (C, N)."""
    return x.index_select(0, lists.slots.view(-1)).view(lists.slots.shape)


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
    """Gradients of q, k and v, from what `attend` took and gave."""
    dim, lists, layout = q.shape[-1], selection.lists, selection.layout
    reach = largest_norm(k.to(lse.dtype))
    everything = [*(x.reshape(1, -1, dim) for x in (q, grad, out)), lse.view(1, -1)]
    rows = Rows.of(*everything, reach=reach)
    dk, dv = (torch.zeros(x.shape, dtype=x.dtype) for x in (k, v))
    empty = torch.ones(lists.count, dtype=torch.bool).index_fill_(0, lists.slots.view(-1), False)
    empty[0] = True
    table = torch.empty(lists.count, dim, dtype=lse.dtype)
    sizes = [len(batch.rows) for batch in lists.batches]
    for batch, part, padding in zip(lists.batches, table.split(sizes), empty.split(sizes), strict=True):
        tokens = (_tokens(x, layout, batch).transpose(1, 2) for x in (k, v))  # (B · c, H, m, D)
        key, value = (widened(x, 1.0) for x in tokens)
        slopes = [torch.zeros(key[..., :-1].shape, dtype=lse.dtype) for _ in range(2)]
        keys, values, *others = (x.flatten(0, 1) for x in (key, value, key[..., :-1], *slopes))
        some = rows.take(batch.rows, len(keys))
        some.q[..., -1].masked_fill_(padding.view(len(keys), -1), -torch.inf)  # exp(−inf) = 0
        part = part.unflatten(0, (len(keys), -1))
        some.write(Slopes(keys.transpose(1, 2), values.transpose(1, 2), *others), part)
        for x, slope in zip((dk, dv), slopes, strict=True):
            _write(x, slope.transpose(1, 2), layout, batch)
    table[0] = 0  # where there is no part
    dq = _of_parts(table, lists).mul_(dim**-0.5)
    return dq.view(q.shape).to(q.dtype), dk, dv, None, None


def _tokens(x: Tensor, layout: ContextLayout, batch: Batch) -> Tensor:
    """Keys or values (B, L, H, D) context by context: (B · c, m, H, D), a view where that can be."""
    tokens = gather_contexts(x, layout, batch.contexts).reshape(-1, batch.size, *x.shape[2:])
    return with_rows(tokens)


def _write(x: Tensor, part: Tensor, layout: ContextLayout, batch: Batch) -> None:
    """The reverse of `_tokens`: (B · c, m, H, D) into x (B, L, H, D)."""
    spans = context_spans(layout, batch.contexts)
    pieces = part.reshape(x.shape[0], -1, *x.shape[2:]).split([end - begin for begin, end in spans], dim=1)
    for (begin, end), piece in zip(spans, pieces, strict=True):
        x[:, begin:end] = piece


def _of_parts(table: Tensor, lists: Lists) -> Tensor:
    """Sum of every query's slots of the table (slots, D): (N, D)."""
    return embedding_bag(torch.stack(lists.slots.unbind(), dim=1), table, mode="sum")
