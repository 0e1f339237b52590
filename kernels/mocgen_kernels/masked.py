"""Attention to all that may be attended to, with the weights of what was not chosen set to 0.

Where most is attended to, to leave out the rest saves nothing: gathers and sums cost more. A factor for every
query and context, 1 or 0, on weights that lie in the cache anyway, costs next to nothing; so this takes as
long as dense attention, on the CPU, in products (see `parts.py`) of fp32 at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from mocgen_kernels.autograd import differentiable
from mocgen_kernels.blocks import keep_freed_memory
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.parts import (
    LOG2_E,
    MOST_LOGITS,
    Queries,
    Rows,
    Slopes,
    Values,
    are_sound,
    largest_norm,
    precise,
    shares_of,
    widened,
)
from mocgen_kernels.rules import QueryRun, query_runs
from mocgen_kernels.selection import Selection

_PAIRS_PER_CALL = 1 << 16  # of all heads, that cost as much as another call


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    return differentiable(attend, gradients, q, k, v, selection, compensate=False)


def attend(
    q: Tensor, k: Tensor, v: Tensor, k_means: Tensor | None, v_means: Tensor | None, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log-sum-exp (B · H, Lq) for a selection with words."""
    keep_freed_memory()
    layout = selection.layout
    queries, keys, values = (_groups(x) for x in (q, k, v))
    out = torch.empty(queries.shape, dtype=queries.dtype)
    lse = torch.empty(queries.shape[:2], dtype=queries.dtype)
    for piece in pieces(selection):
        key, value = (piece.keys(x, layout) for x in (keys, values))
        some, mask = Queries(piece.of(queries)), _Mask.of(piece, selection, out.dtype)
        numerators, total = piece.of(out), piece.of(lse)
        plain = Values(key.transpose(1, 2), value)
        _write(some, plain, mask, numerators, total)
        if not are_sound(total):
            some = some.relative_to(mask.exclude(some.logits(plain)).amax(dim=-1))
            _write(some, Values(widened(key, 1.0).transpose(1, 2), value), mask, numerators, total)
        numerators.div_(total[..., None])
        total.log2_().mul_(1 / LOG2_E).add_(some.reference)
    return _tokens(out, q), lse


def _write(queries: Queries, keys: Values, mask: _Mask, out: Tensor, total: Tensor) -> None:
    """Numerators (g, m, D) and denominators (g, m)."""
    weights = mask.apply(queries.weights(keys))
    torch.sum(weights, dim=-1, out=total)
    torch.bmm(weights, keys.v, out=out)


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
    keys, values = (widened(_groups(x), 1.0) for x in (k, v))
    everything = [*(_groups(x) for x in (q, grad, out)), lse]
    rows = Rows.of(*everything, reach=largest_norm(keys[..., :-1])).take(slice(None), len(lse))
    dq = torch.empty(rows.q[..., :-1].shape, dtype=lse.dtype)
    dk, dv = (torch.zeros(keys[..., :-1].shape, dtype=lse.dtype) for _ in range(2))
    for piece in pieces(selection):
        key, value, *slopes = (piece.keys(x, selection.layout) for x in (keys, values, dk, dv))
        some = Slopes(key.transpose(1, 2), value.transpose(1, 2), key[..., :-1], *slopes)
        mask = _Mask.of(piece, selection, lse.dtype)
        ds = rows[piece.heads, piece.queries].slopes(some, mask=mask.apply)
        torch.bmm(ds, some.k, out=piece.of(dq))
    return *(_tokens(x, q) for x in (dq.mul_(q.shape[-1] ** -0.5), dk, dv)), None, None


def _groups(x: Tensor) -> Tensor:
    """(B, L, H, D) → (B · H, L, D), fp32 at least."""
    return x.transpose(1, 2).flatten(0, 1).to(precise(x))


def _tokens(x: Tensor, q: Tensor) -> Tensor:
    """The reverse of `_groups`, in the dtype of q (B, Lq, H, D)."""
    return x.unflatten(0, (q.shape[0], -1)).transpose(1, 2).to(q.dtype)


class _Piece(NamedTuple):
    """Some heads and queries, with all contexts from the first to the last that they may attend to."""

    heads: slice  # of B · H
    queries: slice
    contexts: slice

    def of(self, x: Tensor) -> Tensor:
        """Their part of (B · H, Lq, …)."""
        return x[self.heads, self.queries]

    def keys(self, x: Tensor, layout: ContextLayout) -> Tensor:
        """The contexts' part of (B · H, L, …)."""
        return x[self.heads, layout.offsets[self.contexts.start] : layout.offsets[self.contexts.stop]]


def runs_of(selection: Selection) -> tuple[QueryRun, ...]:
    """Queries that are worked on in one call if logits allow it."""
    most = _PAIRS_PER_CALL // (selection.batch * selection.heads)
    return query_runs(selection.layout, selection.first_query_context, selection.routing, most)


def pieces(selection: Selection) -> Iterator[_Piece]:
    """All queries, as many at a time as have the logits that may exist at a time."""
    groups = selection.batch * selection.heads
    for run in runs_of(selection):
        size, count = run.queries.stop - run.queries.start, run.keys.stop - run.keys.start
        most = max(1, MOST_LOGITS // count)
        step = -(-size // -(-size // most))
        for start in range(run.queries.start, run.queries.stop, step):
            queries = slice(start, min(start + step, run.queries.stop))
            for heads in shares_of(groups, step * count):
                yield _Piece(heads, queries, run.contexts)


class _Mask(NamedTuple):
    """Which contexts every query attends to: factors for weights."""

    attended: Tensor  # (g, m, c): 1 or 0
    alike: tuple[tuple[slice, slice], ...]  # which of the c, and their keys

    @classmethod
    def of(cls, piece: _Piece, selection: Selection, dtype: torch.dtype) -> _Mask:
        """For a piece."""
        attended = selection.attended(piece.heads, piece.queries, dtype)[..., piece.contexts]
        return cls(attended, _alike(selection.layout, piece.contexts.start, piece.contexts.stop))

    def apply(self, weights: Tensor) -> Tensor:
        """Set weights (g, m, n) to 0 where a query does not attend."""
        for contexts, keys in self.alike:
            attended = self.attended[..., contexts, None]
            weights[..., keys].unflatten(-1, (attended.shape[-2], -1)).mul_(attended)
        return weights

    def exclude(self, logits: Tensor) -> Tensor:
        """Set logits (g, m, n) to −inf where a query does not attend."""
        for contexts, keys in self.alike:
            others = self.attended[..., contexts, None] == 0
            logits[..., keys].unflatten(-1, (others.shape[-2], -1)).masked_fill_(others, -torch.inf)
        return logits


@lru_cache(maxsize=64)
def _alike(layout: ContextLayout, first: int, end: int) -> tuple[tuple[slice, slice], ...]:
    """Neighbours of equal length among contexts first … end − 1, and their tokens, counted from the first."""
    found, base = list[tuple[slice, slice]](), layout.offsets[first]
    begin = first
    for _, alike in groupby(layout.lengths[first:end]):
        stop = begin + len(list(alike))
        keys = slice(layout.offsets[begin] - base, layout.offsets[stop] - base)
        found.append((slice(begin - first, stop - first), keys))
        begin = stop
    return tuple(found)
