"""Sparse attention on the CPU: no work and no memory for pairs that are not attended.

Heads are worked on in small blocks, so that their tensors stay in the caches. Within a block the anchors are
a dense pass per group of queries. Routed contexts are visited one by one (context-major): the queries that
chose the context are gathered, attend to it, and their partial result is merged by log-sum-exp. The backward
pass needs no merge: with the log-sum-exp and the output of the whole row, the gradients of each part are
exact by themselves and only have to be added up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mocgen_kernels.blocks import head_blocks, map_blocks
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
        blocks = head_blocks(selection)
        out = torch.empty(q.shape, dtype=q.dtype)
        lse = torch.empty(*q.shape[:1], *q.shape[2:0:-1], dtype=_precise(q))  # (B, H, Lq)
        parts = map_blocks(blocks, lambda block: _forward_block(*block.take(q, k, v), block.words, selection))
        for block, (part, part_lse) in zip(blocks, parts, strict=True):
            block.put(out, part)
            lse.view(-1, lse.shape[-1])[block.begin : block.end] = part_lse
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.selection = selection
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        blocks = head_blocks(ctx.selection)
        lse = lse.flatten(0, 1)  # (B·H, Lq)
        parts = map_blocks(
            blocks,
            lambda block: _backward_block(
                *block.take(grad, q, k, v, out), lse[block.begin : block.end], block.words, ctx.selection
            ),
        )
        grads = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        for block, part in zip(blocks, parts, strict=True):
            for whole, x in zip(grads, part, strict=True):
                block.put(whole, x)
        return *grads, None


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
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    words: Tensor,
    selection: Selection,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q (h, Lq, D), k and v (h, L, D) of some heads, at least fp32."""
    dq = torch.empty(q.shape, dtype=_precise(q))
    dk, dv = (torch.zeros(k.shape, dtype=_precise(q)) for _ in range(2))
    for group in selection.groups:
        keys, values = (gather_contexts(x, selection.layout, group.anchors) for x in (k, v))
        mine = (None, slice(None), slice(group.start, group.stop))
        part = _backward(grad[mine], q[mine], keys[None], values[None], out[mine], lse[mine], 0.0, False)
        dq[mine[1:]] = part[0][0]
        taken = 0
        for begin, end in context_spans(selection.layout, group.anchors):
            dk[:, begin:end] += part[1][0, :, taken : taken + end - begin]
            dv[:, begin:end] += part[2][0, :, taken : taken + end - begin]
            taken += end - begin
    rows_dq = dq.flatten(0, 1)
    rows = [x.flatten(0, 1) for x in (grad, q, out, lse)]
    for visit in visits(words, selection):
        grad_n, q_n, out_n, lse_n = (visit.gather(x)[None] for x in rows)
        keys, values = (x[None, :, visit.begin : visit.end] for x in (k, v))
        part = _backward(grad_n, q_n, keys, values, out_n, lse_n, 0.0, False)
        dk[:, visit.begin : visit.end] += part[1][0]
        dv[:, visit.begin : visit.end] += part[2][0]
        sums = rows_dq.index_select(0, visit.rows).add_(visit.flat(part[0][0]))
        rows_dq.index_copy_(0, visit.rows, sums)
    return dq, dk, dv
