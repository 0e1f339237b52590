"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Anchors are a dense pass per group of queries. Routed contexts are visited one by one (context-major): the
queries that chose the context are gathered, attend to it, and their partial result is merged by
log-sum-exp. The backward pass needs no merge: with the log-sum-exp and the output of the whole row, the
gradient of each part is exact by itself and only has to be added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels.grouped import context_spans, gather_contexts, grouped_attention
from mocgen_kernels.selection import WORD_BITS, Selection

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.table is not None:
        return grouped_attention(q, k, v, selection)
    return _RoutedAttention.apply(q, k, v, selection)


@dataclass(frozen=True)
class _Visit:
    """The queries that chose a context."""

    begin: int  # first token of the context
    end: int  # one past the last
    rows: Tensor  # (n,) rows of the flattened (B · H · Lq) queries, ascending
    counts: list[int]  # queries of every (batch item, head): B · H numbers


def _visits(selection: Selection) -> Iterator[_Visit]:
    """Every context that any query was routed to."""
    assert selection.words is not None
    offsets = selection.layout.offsets
    heads = selection.words.shape[0] * selection.words.shape[1]
    words = selection.words.view(heads, selection.query_length, -1)
    for context in range(selection.layout.count):
        hits = words[..., context // WORD_BITS].bitwise_and(_bit(context % WORD_BITS)) != 0  # (B·H, Lq)
        rows = hits.view(-1).nonzero().view(-1)
        if len(rows):
            yield _Visit(offsets[context], offsets[context + 1], rows, hits.sum(dim=1).tolist())


def _bit(index: int) -> int:
    """Bit `index` of a signed 32-bit word."""
    return 1 << index if index < WORD_BITS - 1 else -(1 << index)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, L, D)
        q = q.contiguous()
        out, lse = _anchor_forward(q, k, v, selection)
        rows_q, rows_out, rows_lse = q.flatten(0, 2), out.flatten(0, 2), lse.flatten()
        for visit in _visits(selection):
            part, part_lse = _visit_forward(rows_q, k, v, visit)
            _merge(rows_out, rows_lse, part, part_lse, visit.rows)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.selection = selection
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        grad = grad.transpose(1, 2).contiguous()  # (B, H, Lq, D)
        grads = _anchor_backward(grad, q, k, v, out, lse, ctx.selection)
        rows = _Rows(grad.flatten(0, 2), q.flatten(0, 2), out.flatten(0, 2), lse.flatten())
        for visit in _visits(ctx.selection):
            _visit_backward(rows, k, v, visit, grads)
        dq, dk, dv = (x.to(q.dtype).transpose(1, 2) for x in grads)
        return dq, dk, dv, None


def _anchor_forward(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> tuple[Tensor, Tensor]:
    """Attention over the anchors alone: (B, H, Lq, D) and its log-sum-exp (B, H, Lq), at least fp32."""
    precise = torch.promote_types(q.dtype, torch.float32)
    out = torch.empty(q.shape, dtype=precise)
    lse = torch.empty(q.shape[:3], dtype=precise)
    for group in selection.groups:
        keys, values = (gather_contexts(x, selection.layout, group.anchors, dim=2) for x in (k, v))
        part, part_lse = _forward(q[:, :, group.start : group.stop], keys, values)
        out[:, :, group.start : group.stop] = part
        lse[:, :, group.start : group.stop] = part_lse
    return out, lse


def _visit_forward(rows_q: Tensor, k: Tensor, v: Tensor, visit: _Visit) -> tuple[Tensor, Tensor]:
    """Attention of the visiting queries over the context alone: (n, D) and its log-sum-exp (n,)."""
    queries = rows_q.index_select(0, visit.rows).split(visit.counts)
    keys = k[:, :, visit.begin : visit.end].contiguous().flatten(0, 1)  # (B·H, len, D)
    values = v[:, :, visit.begin : visit.end].contiguous().flatten(0, 1)
    parts = [
        _forward(x[None, None], keys[i, None, None], values[i, None, None])
        for i, x in enumerate(queries)
        if len(x)
    ]
    out = torch.cat([out[0, 0] for out, _ in parts])
    return out, torch.cat([lse[0, 0] for _, lse in parts])


def _merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor, rows: Tensor) -> None:
    """Merge a partial softmax into the given rows of `out` (N, D) and `lse` (N,), in place.

    With a = exp(lse) and b = exp(part_lse), the whole is (a · out + b · part) / (a + b): a step of size
    sigmoid(part_lse − lse) from `out` to `part`, which cannot overflow.
    """
    old_lse = lse.index_select(0, rows)
    weight = (part_lse - old_lse).sigmoid_()
    merged = out.index_select(0, rows).lerp_(part.to(out.dtype), weight[:, None])
    out.index_copy_(0, rows, merged)
    lse.index_copy_(0, rows, torch.logaddexp(old_lse, part_lse))


@dataclass(frozen=True)
class _Rows:
    """Queries of all heads in one list, with what the backward pass needs of them."""

    grad: Tensor  # (N, D)
    q: Tensor  # (N, D)
    out: Tensor  # (N, D)
    lse: Tensor  # (N,)


_Grads = tuple[Tensor, Tensor, Tensor]  # of q, k, v: (B, H, L, D), at least fp32


def _anchor_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, selection: Selection
) -> _Grads:
    """Gradients from the anchors alone."""
    precise = torch.promote_types(q.dtype, torch.float32)
    dq = torch.empty(q.shape, dtype=precise)
    dk, dv = (torch.zeros(k.shape, dtype=precise) for _ in range(2))
    for group in selection.groups:
        keys, values = (gather_contexts(x, selection.layout, group.anchors, dim=2) for x in (k, v))
        mine = (..., slice(group.start, group.stop), slice(None))
        part = _backward(
            grad[mine], q[mine], keys, values, out[mine], lse[..., group.start : group.stop], 0.0, False
        )
        dq[mine] = part[0]
        taken = 0
        for begin, end in context_spans(selection.layout, group.anchors):
            dk[:, :, begin:end] += part[1][:, :, taken : taken + end - begin]
            dv[:, :, begin:end] += part[2][:, :, taken : taken + end - begin]
            taken += end - begin
    return dq, dk, dv


def _visit_backward(rows: _Rows, k: Tensor, v: Tensor, visit: _Visit, grads: _Grads) -> None:
    """Add the gradients from one context."""
    dq, dk, dv = grads
    needed = (rows.grad, rows.q, rows.out, rows.lse)
    chosen = [x.index_select(0, visit.rows).split(visit.counts) for x in needed]
    span = slice(visit.begin, visit.end)
    keys, values = (x[:, :, span].contiguous().flatten(0, 1) for x in (k, v))  # (B·H, len, D)
    parts = []
    for i, (grad, q, out, lse) in enumerate(zip(*chosen, strict=True)):
        if not len(q):
            continue
        batch, head = divmod(i, k.shape[1])
        one = (None, None)
        part = _backward(grad[one], q[one], keys[i][one], values[i][one], out[one], lse[one], 0.0, False)
        parts.append(part[0][0, 0])
        dk[batch, head, span] += part[1][0, 0]
        dv[batch, head, span] += part[2][0, 0]
    flat = dq.flatten(0, 2)  # a view: dq is contiguous
    flat.index_copy_(0, visit.rows, flat.index_select(0, visit.rows) + torch.cat(parts))
