"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Queries are worked on in chunks of a head or a few, so that their tensors stay in the caches. Within a chunk
the anchors are a dense pass per group of queries. Routed contexts are visited one by one (context-major): the
queries that chose the context are gathered and attend to it, and their partial results become rows of a
table. A query's output is the sum of its rows, weighted by the softmax of their log-sum-exps. In the backward
pass, with the log-sum-exp and the output of the whole query, the gradients of each part are exact by
themselves and only have to be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels.autograd import differentiable
from mocgen_kernels.blocks import HeadBlock, Scratch, for_each, head_blocks, keep_freed_memory
from mocgen_kernels.compensation import summaries
from mocgen_kernels.grouped import context_spans, grouped_attention
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import Visits

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


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
    lse = torch.empty(q.shape[:3], dtype=_precise(q))
    scratch = Scratch()

    def work(block: HeadBlock) -> None:
        keys = _Keys.of(block, k, v, k_means, v_means).contiguous()
        for chunk in block.chunks(q.shape[1]):
            part = _attend(block, chunk, block.of(q)[:, :, chunk].contiguous(), keys, selection, scratch)
            block.of(out)[:, :, chunk], block.of(lse)[:, :, chunk] = part

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
    sums = [None if x is None else torch.zeros(x.shape, dtype=_precise(x)) for x in (k, v, k_means, v_means)]
    scratch = Scratch()

    def work(block: HeadBlock) -> None:
        keys, slopes = _Keys.of(block, k, v, k_means, v_means).contiguous(), _Keys.of(block, *sums)
        for chunk in block.chunks(q.shape[1]):
            rows = _Rows(*(block.of(x)[:, :, chunk].contiguous() for x in (grad, q, out, lse)))
            block.of(dq)[:, :, chunk] = _add_gradients(block, chunk, rows, keys, slopes, selection, scratch)

    for_each(head_blocks(selection), work)
    return dq, *(None if x is None else x.to(q.dtype) for x in sums)


@dataclass(frozen=True)
class _Keys:
    """Keys and values of a block, or their gradients: of tokens and, with compensation, of whole contexts."""

    k: Tensor  # (1, h, L, D)
    v: Tensor  # (1, h, L, D)
    k_means: Tensor | None  # (1, h, C, D)
    v_means: Tensor | None  # (1, h, C, D)

    @classmethod
    def of(cls, block: HeadBlock, *tensors: Tensor | None) -> _Keys:
        """The block's part of (B, L, H, D) or (B, C, H, D), views."""
        return cls(*(None if x is None else block.of(x) for x in tensors))  # type: ignore[arg-type]

    def contiguous(self) -> _Keys:
        """The same with rows next to each other in memory."""
        every = (self.k, self.v, self.k_means, self.v_means)
        return _Keys(*(None if x is None else x.contiguous() for x in every))  # type: ignore[arg-type]

    def contexts(self, layout: ContextLayout) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every context of every head, head by head, views: (1, 1, n, D) each."""
        every = zip(self.k.split(1, dim=1), self.v.split(1, dim=1), strict=True)
        return [
            pair
            for head in every
            for pair in zip(*(x.split(layout.lengths, dim=2) for x in head), strict=True)
        ]


@dataclass(frozen=True)
class _Rows:
    """What the backward pass needs of some queries; of whole rows."""

    grad: Tensor  # (1, h, m, D)
    q: Tensor  # (1, h, m, D)
    out: Tensor  # (1, h, m, D)
    lse: Tensor  # (1, h, m)

    def span(self, span: slice) -> _Rows:
        return _Rows(*(x[:, :, span] for x in (self.grad, self.q, self.out, self.lse)))

    def at(self, rows: Tensor) -> _Rows:
        """Those of the given numbers, counted head by head: (1, 1, m, D) each."""
        every = (x.flatten(1, 2)[:, None] for x in (self.grad, self.q, self.out, self.lse))
        return _Rows(*(x.index_select(2, rows) for x in every))

    def gradients(self, k: Tensor, v: Tensor, *, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What keys and values (1, h, n, D) contribute to dq, and their own dk and dv."""
        return _backward(self.grad, self.q, k, v, self.out, self.lse, 0.0, False, attn_mask=bias)


def _attend(
    block: HeadBlock, chunk: slice, q: Tensor, keys: _Keys, selection: Selection, scratch: Scratch
) -> tuple[Tensor, Tensor]:
    """Output (1, h, Q, D) and log-sum-exp (1, h, Q) of a chunk of queries (1, h, Q, D)."""
    length, dim = q.shape[1] * q.shape[2], q.shape[3]
    visits = Visits.of(block.words(selection)[:, chunk], selection.layout.count)
    table = scratch.take("table", (1, 1, len(visits.order), dim), _precise(q))
    base, *parts = table.split([length, *visits.counts], dim=2)
    lses = [_anchored(block, chunk, q, keys, selection, base.view(q.shape)).view(1, 1, -1)]
    rows_q = q.view(1, 1, length, dim)
    contexts = zip(visits.rows.split(visits.counts), keys.contexts(selection.layout), parts, strict=True)
    for some, (k, v), part in contexts:
        if len(some):
            out, lse = _forward(rows_q.index_select(2, some), k, v)[:2]
            part.copy_(out)
            lses.append(lse)
    weights, lse = visits.softmax(torch.cat(lses, dim=2).view(-1).to(table.dtype))
    return visits.sums(table.view(-1, dim), weights).view(q.shape), lse.view(q.shape[:3])


def _anchored(
    block: HeadBlock, chunk: slice, q: Tensor, keys: _Keys, selection: Selection, out: Tensor
) -> Tensor:
    """Attention to the anchors, and to the means of skipped contexts, into `out`; the log-sum-exp."""
    lse = torch.empty(q.shape[:3], dtype=out.dtype)
    for span, anchors in _anchors(chunk, selection):
        k, v = (gather_spans(x, anchors) for x in (keys.k, keys.v))
        out[:, :, span], lse[:, :, span] = _forward(q[:, :, span], k, v)[:2]
    if keys.k_means is not None:
        for some in summaries(block, chunk, selection, q.dtype):
            span = some.span
            part, part_lse = _forward(q[:, :, span], keys.k_means, keys.v_means, attn_mask=some.bias)[:2]
            part_lse.masked_fill_(some.nothing, -torch.inf)
            out[:, :, span], lse[:, :, span] = _merged(out[:, :, span], lse[:, :, span], part, part_lse)
    return lse


def _add_gradients(
    block: HeadBlock,
    chunk: slice,
    rows: _Rows,
    keys: _Keys,
    slopes: _Keys,
    selection: Selection,
    scratch: Scratch,
) -> Tensor:
    """dq (1, h, Q, D) of a chunk of queries; what they contribute to other gradients goes into `slopes`."""
    length, dim = rows.q.shape[1] * rows.q.shape[2], rows.q.shape[3]
    visits = Visits.of(block.words(selection)[:, chunk], selection.layout.count)
    table = scratch.take("table", (1, 1, len(visits.order), dim), _precise(rows.q))
    base, *parts = table.split([length, *visits.counts], dim=2)
    base = base.view(rows.q.shape)
    for span, anchors in _anchors(chunk, selection):
        k, v = (gather_spans(x, anchors) for x in (keys.k, keys.v))
        base[:, :, span], k_part, v_part = rows.span(span).gradients(k, v)
        add_to_spans(slopes.k, anchors, k_part)
        add_to_spans(slopes.v, anchors, v_part)
    contexts = (x.contexts(selection.layout) for x in (keys, slopes))
    visitors = visits.rows.split(visits.counts)
    for some, (k, v), (dk, dv), part in zip(visitors, *contexts, parts, strict=True):
        if len(some):
            q_part, k_part, v_part = rows.at(some).gradients(k, v)
            part.copy_(q_part)
            dk.add_(k_part)
            dv.add_(v_part)
    dq = visits.sums(table.view(-1, dim)).view(rows.q.shape)
    if keys.k_means is not None:
        assert keys.v_means is not None
        assert slopes.k_means is not None
        assert slopes.v_means is not None
        for some in summaries(block, chunk, selection, rows.q.dtype):
            q_part, k_part, v_part = rows.span(some.span).gradients(
                keys.k_means, keys.v_means, bias=some.bias
            )
            dq[:, :, some.span].add_(q_part)
            slopes.k_means.add_(k_part)
            slopes.v_means.add_(v_part)
    return dq


def _anchors(chunk: slice, selection: Selection) -> Iterator[tuple[slice, list[tuple[int, int]]]]:
    """For every run of queries of the chunk that share anchors: where it lies in it, and the token spans."""
    for group in selection.groups:
        start, stop = max(group.start, chunk.start), min(group.stop, chunk.stop)
        if start < stop:
            span = slice(start - chunk.start, stop - chunk.start)
            yield span, context_spans(selection.layout, group.anchors)


def _merged(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Two partial softmaxes (..., D) and (...) made one; `out` may be written to.

    With a = exp(lse) and b = exp(part_lse), the whole is (a · out + b · part) / (a + b): a step of size
    sigmoid(part_lse − lse) from `out` to `part`, which cannot overflow.
    """
    weight = part_lse.sub(lse).sigmoid_()
    return out.lerp_(part.to(out.dtype), weight[..., None]), torch.logaddexp(lse, part_lse)


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def gather_spans(x: Tensor, spans: list[tuple[int, int]]) -> Tensor:
    """Tokens of the given ranges of (1, h, L, D): (1, h, n, D); a view where there is one range."""
    parts = [x[:, :, begin:end] for begin, end in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def add_to_spans(x: Tensor, spans: list[tuple[int, int]], part: Tensor) -> None:
    """Add (1, h, n, D) to the tokens of the given ranges of x (1, h, L, D)."""
    for (begin, end), piece in zip(spans, part.split([e - b for b, e in spans], dim=2), strict=True):
        x[:, :, begin:end].add_(piece)
