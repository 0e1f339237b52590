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

from mocgen_kernels.blocks import HeadBlock, for_each_block, head_blocks
from mocgen_kernels.compensation import context_means, summaries
from mocgen_kernels.grouped import context_spans, grouped_attention
from mocgen_kernels.selection import Selection
from mocgen_kernels.visits import visits

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.table is not None:
        return grouped_attention(q, k, v, selection, compensate=compensate)
    means = [context_means(x, selection.layout) for x in (k, v)] if compensate else [None, None]
    return _RoutedAttention.apply(q, k, v, *means, selection)


class _RoutedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        k_means: Tensor | None,  # (B, C, H, D)
        v_means: Tensor | None,  # (B, C, H, D)
        selection: Selection,
    ) -> Tensor:
        q, k, v = q.contiguous(), _rows_contiguous(k), _rows_contiguous(v)
        out = torch.empty(q.shape, dtype=_precise(q))
        lse = torch.empty(q.shape[:3], dtype=_precise(q))  # (B, Lq, H)

        def work(block: HeadBlock) -> None:
            queries, keys, values = (block.of(x) for x in (q, k, v))  # (1, h, L, D)
            block_out, block_lse = block.of(out), block.of(lse)
            for group in selection.groups:
                span, anchors = slice(group.start, group.stop), context_spans(selection.layout, group.anchors)
                parts = _forward(queries[:, :, span], *(gather_spans(x, anchors) for x in (keys, values)))
                block_out[:, :, span], block_lse[:, :, span] = parts[:2]
            if k_means is not None and v_means is not None:
                means = [block.of(x) for x in (k_means, v_means)]
                for some in summaries(block, selection, q.dtype):
                    span = slice(some.start, some.stop)
                    part, part_lse = _forward(queries[:, :, span], *means, attn_mask=some.bias)[:2]
                    part_lse.masked_fill_(some.nothing, -torch.inf)
                    merged = _merged(block_out[:, :, span], block_lse[:, :, span], part, part_lse)
                    block_out[:, :, span], block_lse[:, :, span] = merged
            table, rows_out, rows_lse = q.flatten(0, 2), out.flatten(0, 2), lse.flatten()
            for visit in visits(block, selection):
                part, part_lse = _forward(visit.gather(table), visit.of(keys), visit.of(values))[:2]
                old_out, old_lse = (x.index_select(0, visit.rows) for x in (rows_out, rows_lse))
                merged = _merged(old_out, old_lse, visit.flat(part), visit.flat(part_lse))
                rows_out.index_copy_(0, visit.rows, merged[0])
                rows_lse.index_copy_(0, visit.rows, merged[1])

        for_each_block(head_blocks(selection), work)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, k_means, v_means, out, lse)
        ctx.selection = selection
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, k_means, v_means, out, lse = ctx.saved_tensors
        selection: Selection = ctx.selection
        saved = (grad.contiguous(), q, out, lse)
        dq, dk, dv = (torch.zeros(x.shape, dtype=_precise(x)) for x in (q, k, v))
        dk_means, dv_means = (
            None if x is None else torch.zeros(x.shape, dtype=_precise(x)) for x in (k_means, v_means)
        )

        def work(block: HeadBlock) -> None:
            keys, values, to_k, to_v = (block.of(x) for x in (k, v, dk, dv))  # (1, h, L, D)
            to_q = block.of(dq)
            for group in selection.groups:
                span, anchors = slice(group.start, group.stop), context_spans(selection.layout, group.anchors)
                rows = _Rows(*(block.of(x)[:, :, span] for x in saved))
                parts = rows.gradients(*(gather_spans(x, anchors) for x in (keys, values)))
                to_q[:, :, span] = parts[0]
                add_to_spans(to_k, anchors, parts[1])
                add_to_spans(to_v, anchors, parts[2])
            if dk_means is not None and dv_means is not None:
                means = [block.of(x) for x in (k_means, v_means)]
                for some in summaries(block, selection, q.dtype):
                    span = slice(some.start, some.stop)
                    rows = _Rows(*(block.of(x)[:, :, span] for x in saved))
                    parts = rows.gradients(*means, bias=some.bias)
                    for whole, part in zip((dq[:, span], dk_means, dv_means), parts, strict=True):
                        block.of(whole).add_(part)
            tables, rows_dq = [x.flatten(0, 2) for x in saved], dq.flatten(0, 2)
            for visit in visits(block, selection):
                rows = _Rows(*(visit.gather(x) for x in tables))
                parts = rows.gradients(visit.of(keys), visit.of(values))
                rows_dq.index_add_(0, visit.rows, visit.flat(parts[0]).to(dq.dtype))
                visit.of(to_k).add_(parts[1])
                visit.of(to_v).add_(parts[2])

        for_each_block(head_blocks(selection), work)
        pairs = ((dq, q), (dk, k), (dv, v), (dk_means, k_means), (dv_means, v_means))
        return *(x if x is None else x.to(like.dtype) for x, like in pairs), None


def _merged(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Two partial softmaxes (..., D) and (...) made one; `out` may be written to.

    With a = exp(lse) and b = exp(part_lse), the whole is (a · out + b · part) / (a + b): a step of size
    sigmoid(part_lse − lse) from `out` to `part`, which cannot overflow.
    """
    weight = part_lse.sub(lse).sigmoid_()
    return out.lerp_(part.to(out.dtype), weight[..., None]), torch.logaddexp(lse, part_lse)


@dataclass(frozen=True)
class _Rows:
    """What the backward pass needs of some queries."""

    grad: Tensor  # (1, h, m, D)
    q: Tensor  # (1, h, m, D)
    out: Tensor  # (1, h, m, D)
    lse: Tensor  # (1, h, m), of whole rows

    def gradients(self, k: Tensor, v: Tensor, *, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What keys and values (1, h, n, D) contribute to dq, and their own dk and dv."""
        return _backward(self.grad, self.q, k, v, self.out, self.lse, 0.0, False, attn_mask=bias)


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def gather_spans(x: Tensor, spans: list[tuple[int, int]]) -> Tensor:
    """Tokens of the given ranges of (1, h, L, D): (1, h, n, D); a view where there is one range."""
    parts = [x[:, :, begin:end] for begin, end in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def add_to_spans(x: Tensor, spans: list[tuple[int, int]], part: Tensor) -> None:
    """Add (1, h, n, D) to the tokens of the given ranges of x (1, h, L, D)."""
    for (begin, end), piece in zip(spans, part.split([e - b for b, e in spans], dim=2), strict=True):
        x[:, :, begin:end].add_(piece)
