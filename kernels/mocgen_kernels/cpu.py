"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Heads are worked on in small blocks, so that their tensors stay in the caches. Within a block the anchors are
a dense pass per group of queries. Routed contexts are visited one by one (context-major): the queries that
chose the context are gathered, attend to it, and their partial result is merged by log-sum-exp. The backward
pass needs no merge: with the log-sum-exp and the output of the whole row, the gradients of each part are
exact by themselves and only have to be added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels.blocks import HeadBlock, head_blocks, map_blocks
from mocgen_kernels.grouped import context_spans, gather_contexts, grouped_attention
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import Visit, visits

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def routed_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.table is not None:
        return grouped_attention(q, k, v, selection)
    return _RoutedAttention.apply(q, k, v, selection)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
        def work(block: HeadBlock) -> tuple[Tensor, Tensor]:
            return _forward_block(block.take(q), block.take(k), block.take(v), block.words, selection)

        blocks = head_blocks(selection)
        out, rows_lse = torch.empty(q.shape, dtype=q.dtype), []
        for block, (part, part_lse) in zip(blocks, map_blocks(blocks, work), strict=True):
            block.put(out, part)
            rows_lse.append(part_lse)
        ctx.save_for_backward(q, k, v, out, torch.cat(rows_lse))  # lse: (B·H, Lq)
        ctx.selection = selection
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors

        def work(block: HeadBlock) -> tuple[Tensor, Tensor, Tensor]:
            rows = _Rows(block.take(grad), block.take(q), block.take(out), lse[block.begin : block.end])
            return _backward_block(rows, block.take(k), block.take(v), block.words, ctx.selection)

        blocks = head_blocks(ctx.selection)
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        for block, part in zip(blocks, map_blocks(blocks, work), strict=True):
            for whole, x in zip((dq, dk, dv), part, strict=True):
                block.put(whole, x)
        return dq, dk, dv, None


@dataclass(frozen=True)
class _Rows:
    """What the backward pass needs of the queries of some heads."""

    grad: Tensor  # (h, Lq, D)
    q: Tensor  # (h, Lq, D)
    out: Tensor  # (h, Lq, D)
    lse: Tensor  # (h, Lq)

    def span(self, start: int, stop: int) -> _Rows:
        """Some queries of every head."""
        return _Rows(*(x[:, start:stop] for x in (self.grad, self.q, self.out, self.lse)))

    def visitors(self, visit: Visit) -> _Rows:
        """The queries that chose a context: (h, m, D) and (h, m)."""
        return _Rows(*(visit.gather(x.flatten(0, 1)) for x in (self.grad, self.q, self.out, self.lse)))

    def gradients(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the keys and values (h, n, D) contribute to dq, and their own dk and dv."""
        parts = _backward(
            self.grad[None], self.q[None], k[None], v[None], self.out[None], self.lse[None], 0.0, False
        )
        return parts[0][0], parts[1][0], parts[2][0]


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _forward_block(
    q: Tensor, k: Tensor, v: Tensor, words: Tensor, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Attention of some heads: q (h, Lq, D), k and v (h, L, D), words (h, Lq, W) → (h, Lq, D), (h, Lq)."""
    out = torch.empty(q.shape, dtype=_precise(q))
    lse = torch.empty(q.shape[:2], dtype=_precise(q))
    for group in selection.groups:
        keys, values = (gather_contexts(x, selection.layout, group.anchors) for x in (k, v))
        part, part_lse = _forward(q[None, :, group.start : group.stop], keys[None], values[None])
        out[:, group.start : group.stop] = part[0]
        lse[:, group.start : group.stop] = part_lse[0]
    rows_q, rows_out, rows_lse = q.flatten(0, 1), out.flatten(0, 1), lse.flatten()
    for visit in visits(words, selection):
        keys, values = (x[None, :, visit.begin : visit.end] for x in (k, v))
        part, part_lse = _forward(visit.gather(rows_q)[None], keys, values)
        _merge(rows_out, rows_lse, visit, visit.flat(part[0]), visit.flat(part_lse[0]))
    return out.to(q.dtype), lse


def _merge(out: Tensor, lse: Tensor, visit: Visit, part: Tensor, part_lse: Tensor) -> None:
    """Merge a partial softmax (n, D) and (n,) into the visitors' rows of `out` (N, D) and `lse` (N,).

    With a = exp(lse) and b = exp(part_lse), the whole is (a · out + b · part) / (a + b): a step of size
    sigmoid(part_lse − lse) from `out` to `part`, which cannot overflow.
    """
    old_lse = lse.index_select(0, visit.rows)
    weight = (part_lse - old_lse).sigmoid_()
    merged = out.index_select(0, visit.rows).lerp_(part.to(out.dtype), weight[:, None])
    out.index_copy_(0, visit.rows, merged)
    lse.index_copy_(0, visit.rows, torch.logaddexp(old_lse, part_lse))


def _backward_block(
    rows: _Rows, k: Tensor, v: Tensor, words: Tensor, selection: Selection
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q (h, Lq, D), k and v (h, L, D) of some heads, at least fp32."""
    dq = torch.empty(rows.q.shape, dtype=_precise(k))
    dk, dv = (torch.zeros(k.shape, dtype=_precise(k)) for _ in range(2))
    for group in selection.groups:
        keys, values = (gather_contexts(x, selection.layout, group.anchors) for x in (k, v))
        dq_part, dk_part, dv_part = rows.span(group.start, group.stop).gradients(keys, values)
        dq[:, group.start : group.stop] = dq_part
        taken = 0
        for begin, end in context_spans(selection.layout, group.anchors):
            dk[:, begin:end] += dk_part[:, taken : taken + end - begin]
            dv[:, begin:end] += dv_part[:, taken : taken + end - begin]
            taken += end - begin
    rows_dq = dq.flatten(0, 1)
    for visit in visits(words, selection):
        span = slice(visit.begin, visit.end)
        dq_part, dk_part, dv_part = rows.visitors(visit).gradients(k[:, span], v[:, span])
        dk[:, span] += dk_part
        dv[:, span] += dv_part
        sums = rows_dq.index_select(0, visit.rows).add_(visit.flat(dq_part))
        rows_dq.index_copy_(0, visit.rows, sums)
    return dq, dk, dv
