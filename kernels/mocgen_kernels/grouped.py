"""Attention group by group: a group of queries sees only the keys that some of its queries may attend to.

Differentiable by composition and works on any device. Unmasked where the selection is static (then all the
work is needed), masked where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import QueryGroup, runs_of_equal_rows
from mocgen_kernels.selection import Selection, unpack_bits

MOST_LOGITS = 2**26  # that may be kept for a backward pass; more are computed anew by fused attention


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.table is not None:
        parts = _static_parts(q, k, v, selection, selection.table)
    else:
        parts = [_masked_part(q, k, v, selection, group) for group in selection.groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def context_spans(layout: ContextLayout, contexts: Sequence[int]) -> list[tuple[int, int]]:
    """Token ranges of the given ascending contexts, neighbours joined."""
    spans: list[tuple[int, int]] = []
    for context in contexts:
        begin, end = layout.offsets[context], layout.offsets[context + 1]
        if spans and spans[-1][1] == begin:
            begin = spans.pop()[0]
        spans.append((begin, end))
    return spans


def gather_contexts(x: Tensor, layout: ContextLayout, contexts: Sequence[int], dim: int = 1) -> Tensor:
    """Tokens of the given ascending contexts along `dim`; a view if the contexts are neighbours."""
    parts = [x.narrow(dim, begin, end - begin) for begin, end in context_spans(layout, contexts)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _static_parts(q: Tensor, k: Tensor, v: Tensor, selection: Selection, table: Tensor) -> list[Tensor]:
    """One unmasked attention per run of queries that attend to the same contexts."""
    layout, first = selection.layout, selection.first_query_context
    attended = table | selection.anchor_table  # (Cq, C)
    parts = []
    for begin, end in runs_of_equal_rows(attended):
        tokens = layout.query_span(first, begin, end)
        contexts = attended[begin].nonzero().flatten().tolist()
        keys, values = (gather_contexts(x, layout, contexts) for x in (k, v))
        parts.append(_attend(q[:, tokens], keys, values, None))
    return parts


def _masked_part(q: Tensor, k: Tensor, v: Tensor, selection: Selection, group: QueryGroup) -> Tensor:
    """Attention of one group to its anchors and candidates, masked where a candidate was not chosen."""
    layout = selection.layout
    contexts = sorted([*group.anchors, *group.candidates])
    keys, values = (gather_contexts(x, layout, contexts) for x in (k, v))
    queries = q[:, group.start : group.stop]
    return _attend(queries, keys, values, _bias(selection, group, contexts, q))


def _bias(selection: Selection, group: QueryGroup, contexts: list[int], q: Tensor) -> Tensor | None:
    """What to add to the logits: 0 or −inf, (B, H, Q, n) in the dtype of q; None if all are attended to."""
    assert selection.words is not None
    layout, device = selection.layout, q.device
    attended = unpack_bits(selection.words[:, :, group.start : group.stop], layout.count)  # (B, H, Q, C)
    attended[..., list(group.anchors)] = True
    attended = attended[..., contexts]
    if bool(attended.all()):
        return None
    lengths = torch.tensor([layout.lengths[c] for c in contexts])
    tokens = torch.arange(len(contexts)).repeat_interleave(lengths).to(device)  # (n,)
    bias = torch.zeros(attended.shape, dtype=q.dtype, device=device).masked_fill_(~attended, -torch.inf)
    return bias.index_select(-1, tokens)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if _matmuls_are_faster(q, k):
        precise = torch.promote_types(q.dtype, torch.float32)
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = torch.softmax(logits if bias is None else logits + bias, dim=-1, dtype=precise)
        return (weights.to(v.dtype) @ v).transpose(1, 2)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


def _matmuls_are_faster(q: Tensor, k: Tensor) -> bool:
    """On the CPU the backward pass of the fused attention takes 2 to 3 times as long as that of matmuls."""
    learning = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    logits = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    return learning and q.device.type == "cpu" and logits <= MOST_LOGITS
