"""Attention to all that may be attended to, with the weights of what was not chosen set to 0.

Where most is attended to, to leave out the rest saves nothing: gathers and sums cost more. A factor for every
query and context, 1 or 0, on weights that were just computed costs next to nothing; so this takes as long as
dense attention. It goes by products of fp32 at least, see `parts.py`, blocks of queries and keys at a time.
Choices in which tokens have no say need factors only where queries of one block see different contexts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, pairwise
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

_PAIRS_PER_BLOCK = 1 << 17  # of all heads, that cost as much as another block
_QUERIES, _KEYS = 1024, 512  # in a block, unless a context has more


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    return differentiable(attend, gradients, q, k, v, selection, compensate=False)


def attend(
    q: Tensor, k: Tensor, v: Tensor, k_means: Tensor | None, v_means: Tensor | None, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log-sum-exp (B, Lq, H)."""
    keep_freed_memory()
    rows, keys, values = (_groups(x) for x in (q, k, v))
    out = rows.new_empty(rows.shape)
    total = rows.new_empty(rows.shape[:2])
    found = list(pieces(selection))
    for piece in found:
        _attend(piece, Queries(piece.of(rows)), selection, keys, values, out, total)
    lse = total.log2().mul_(1 / LOG2_E)
    for piece in [] if are_sound(total) else found:
        if not are_sound(piece.of(total)):
            queries = _relative(piece, Queries(piece.of(rows)), selection, keys, values)
            _attend(piece, queries, selection, keys, values, out, total)
            torch.add(queries.reference, piece.of(total).log2(), alpha=1 / LOG2_E, out=piece.of(lse))
    return _tokens(out, q), lse.unflatten(0, (len(q), -1)).transpose(1, 2)


def _attend(
    piece: _Piece,
    queries: Queries,
    selection: Selection,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    total: Tensor,
) -> None:
    """Write the piece's part of the output and of the denominators (B · H, Lq)."""
    sums = queries.q.new_zeros(*queries.q.shape[:2], values.shape[2])  # apart: see `parts.add_products`
    denominators = piece.of(total).zero_()
    for block, mask in piece.values(selection, keys, values):
        weights = mask.apply(queries.weights(block.with_row() if queries.referenced else block))
        sums.baddbmm_(weights, block.v)
        denominators.add_(weights.sum(dim=-1))
    torch.div(sums, denominators[..., None], out=piece.of(out))


def _relative(piece: _Piece, queries: Queries, selection: Selection, keys: Tensor, values: Tensor) -> Queries:
    """The piece's queries relative to their highest logits."""
    blocks = piece.values(selection, keys, values)
    peaks = [mask.exclude(queries.logits(block)).amax(dim=-1) for block, mask in blocks]
    return queries.relative_to(torch.stack(peaks).amax(dim=0))


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
    everything = [_groups(x) for x in (q, grad, out, lse)]
    rows = Rows.of(*everything, reach=largest_norm(keys[..., :-1])).take(slice(-1), len(keys))
    dq = rows.q.new_empty(rows.q[..., :-1].shape)
    dk, dv = (x.new_zeros(x[..., :-1].shape) for x in (keys, values))
    for piece in pieces(selection):
        some = rows[piece.heads, piece.queries]
        slope = dq.new_zeros(piece.of(dq).shape)
        for block, mask in piece.masks(selection, lse.dtype):
            key, value, *slopes = (block.of(x, piece) for x in (keys, values, dk, dv))
            part = Slopes(key.transpose(1, 2), value.transpose(1, 2), key[..., :-1], *slopes)
            slope.baddbmm_(some.slopes(part, mask=mask.apply), part.k)
        piece.of(dq).copy_(slope)
    return *(_tokens(x, q) for x in (dq.mul_(q.shape[-1] ** -0.5), dk, dv)), None, None


def _groups(x: Tensor) -> Tensor:
    """(B, L, H, …) → (B · H, L, …), fp32 at least."""
    return x.transpose(1, 2).flatten(0, 1).to(precise(x))


def _tokens(x: Tensor, q: Tensor) -> Tensor:
    """The reverse of `_groups`, in the dtype of q (B, Lq, H, D)."""
    return x.unflatten(0, (q.shape[0], -1)).transpose(1, 2).to(q.dtype)


class _Mask(NamedTuple):
    """Which contexts of a block every query attends to."""

    attended: Tensor  # (g, m, c) or (1, m, c): 1 or 0
    alike: tuple[tuple[slice, slice], ...]  # as of `_Block`; none where all is attended to

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


class _Block(NamedTuple):
    """Neighbouring contexts that are attended to at a time."""

    contexts: slice
    keys: slice
    alike: tuple[tuple[slice, slice], ...]  # neighbours of equal length: contexts, keys, counted from 0

    def of(self, x: Tensor, piece: _Piece) -> Tensor:
        """The contexts' part of (B · H, L, …), of a piece's heads."""
        return x[piece.heads, self.keys]


@lru_cache(maxsize=64)
def _blocks(layout: ContextLayout, contexts: tuple[int, int]) -> tuple[_Block, ...]:
    """Cut contexts, from the first to one before the last, into blocks."""
    bounds, offsets = [contexts[0]], layout.offsets
    for context in range(*contexts):
        if offsets[context + 1] - offsets[bounds[-1]] > _KEYS and context > bounds[-1]:
            bounds.append(context)
    return tuple(_block(layout, *pair) for pair in pairwise([*bounds, contexts[1]]))


def _block(layout: ContextLayout, first: int, end: int) -> _Block:
    alike, begin, offsets = list[tuple[slice, slice]](), first, layout.offsets
    for _, run in groupby(layout.lengths[first:end]):
        stop = begin + len(list(run))
        keys = slice(offsets[begin] - offsets[first], offsets[stop] - offsets[first])
        alike.append((slice(begin - first, stop - first), keys))
        begin = stop
    return _Block(slice(first, end), slice(offsets[first], offsets[end]), tuple(alike))


class _Piece(NamedTuple):
    """Some heads and queries, and all contexts from the first to the last that they may attend to."""

    heads: slice  # of B · H
    queries: slice
    blocks: tuple[_Block, ...]

    def of(self, x: Tensor) -> Tensor:
        """The queries' part of (B · H, Lq, …)."""
        return x[self.heads, self.queries]

    def masks(self, selection: Selection, dtype: torch.dtype) -> Iterator[tuple[_Block, _Mask]]:
        """Blocks with their masks."""
        attended, static = selection.attended(self.heads, self.queries, dtype), selection.words is None
        for block in self.blocks:
            some = attended[..., block.contexts]
            yield block, _Mask(some, () if static and some.all() else block.alike)

    def values(self, selection: Selection, keys: Tensor, values: Tensor) -> Iterator[tuple[Values, _Mask]]:
        """The same with keys and values of the blocks, from those of all heads (B · H, L, D)."""
        for block, mask in self.masks(selection, keys.dtype):
            yield Values(block.of(keys, self).transpose(1, 2), block.of(values, self)), mask


def runs_of(selection: Selection) -> tuple[QueryRun, ...]:
    """Queries that see the same contexts, or nearly."""
    return query_runs(
        selection.layout,
        selection.first_query_context,
        selection.routing,
        block=(_QUERIES, _KEYS),
        pairs_per_block=_PAIRS_PER_BLOCK // (selection.batch * selection.heads),
        static=selection.words is None,
    )


def pieces(selection: Selection) -> Iterator[_Piece]:
    """All queries, as many at a time as have the logits that may exist at a time."""
    for run in runs_of(selection):
        blocks = _blocks(selection.layout, (run.contexts.start, run.contexts.stop))
        keys = max(block.keys.stop - block.keys.start for block in blocks)
        size, most = run.queries.stop - run.queries.start, max(1, min(_QUERIES, MOST_LOGITS // keys))
        step = -(-size // -(-size // most))
        for start in range(run.queries.start, run.queries.stop, step):
            queries = slice(start, min(start + step, run.queries.stop))
            for heads in shares_of(selection.batch * selection.heads, step * keys):
                yield _Piece(heads, queries, blocks)
