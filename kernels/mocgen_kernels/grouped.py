"""Attention group by group: a group of queries sees only the keys that some of its queries may attend to.

Differentiable by composition and works on any device. Unmasked where the selection is static (then all the
work is needed), masked where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels.compensation import context_means, log_lengths
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import QueryGroup, runs_of_equal_rows
from mocgen_kernels.selection import Selection, unpack_bits


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    scene = _Scene(k, v, *((context_means(x, selection.layout) if compensate else None) for x in (k, v)))
    if selection.table is not None:
        parts = _static_parts(q, scene, selection, selection.table)
    else:
        parts = [_masked_part(q, scene, selection, group) for group in selection.groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


@dataclass(frozen=True)
class _Scene:
    """Keys and values (B, L, H, D); with compensation, those of whole contexts too (B, C, H, D)."""

    k: Tensor
    v: Tensor
    k_means: Tensor | None
    v_means: Tensor | None

    def take(
        self, layout: ContextLayout, contexts: Sequence[int], summarised: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the given ascending contexts, then the means of others: (B, n + m, H, D)."""
        keys, values = (gather_contexts(x, layout, contexts) for x in (self.k, self.v))
        if self.k_means is None or self.v_means is None or not summarised:
            return keys, values
        index = torch.tensor(summarised, device=keys.device)
        means = (x.index_select(1, index) for x in (self.k_means, self.v_means))
        keys, values = (torch.cat(pair, dim=1) for pair in zip((keys, values), means, strict=True))
        return keys, values


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


def _static_parts(q: Tensor, scene: _Scene, selection: Selection, table: Tensor) -> list[Tensor]:
    """One attention per run of queries that attend to the same contexts; unmasked but for compensation."""
    layout, first = selection.layout, selection.first_query_context
    attended = table | selection.anchor_table  # (Cq, C)
    skipped = selection.candidate_table & ~table
    parts = []
    for begin, end in runs_of_equal_rows(torch.cat([attended, skipped], dim=1)):
        tokens = layout.query_span(first, begin, end)
        contexts = attended[begin].nonzero().flatten().tolist()
        summarised = skipped[begin].nonzero().flatten().tolist() if scene.k_means is not None else []
        keys, values = scene.take(layout, contexts, summarised)
        bias = None
        if summarised:
            lengths = log_lengths(layout)[summarised].to(q.device, q.dtype)
            bias = torch.cat((lengths.new_zeros(keys.shape[1] - len(summarised)), lengths))[None, None, None]
        parts.append(_attend(q[:, tokens], keys, values, bias))
    return parts


def _masked_part(q: Tensor, scene: _Scene, selection: Selection, group: QueryGroup) -> Tensor:
    """Attention of one group to its anchors and candidates, masked where a candidate was not chosen."""
    layout = selection.layout
    contexts = sorted([*group.anchors, *group.candidates])
    summarised = group.candidates if scene.k_means is not None else ()
    keys, values = scene.take(layout, contexts, summarised)
    bias = _bias(selection, group, contexts, summarised, q)
    if bias is None:
        keys, values = (x[:, : sum(layout.lengths[c] for c in contexts)] for x in (keys, values))
    return _attend(q[:, group.start : group.stop], keys, values, bias)


def _bias(
    selection: Selection, group: QueryGroup, contexts: list[int], summarised: Sequence[int], q: Tensor
) -> Tensor | None:
    """What to add to the logits, (B, H, Q, n + m) in the dtype of q; None if all contexts are attended to.

    0 for tokens of attended contexts, log n for the mean of a skipped one, −inf elsewhere.
    """
    assert selection.words is not None
    layout, device = selection.layout, q.device
    attended = unpack_bits(selection.words[:, :, group.start : group.stop], layout.count)  # (B, H, Q, C)
    attended[..., list(group.anchors)] = True
    if bool(attended[..., contexts].all()):
        return None
    lengths = torch.tensor([layout.lengths[c] for c in contexts])
    tokens = torch.tensor(contexts).repeat_interleave(lengths).to(device)  # (n,)
    bias = torch.zeros(attended.shape, dtype=q.dtype, device=device).masked_fill_(~attended, -torch.inf)
    bias = bias.index_select(-1, tokens)
    if summarised:
        logs = log_lengths(layout)[list(summarised)].to(device, q.dtype)
        means = torch.where(attended[..., list(summarised)], -torch.inf, logs)
        bias = torch.cat((bias, means), dim=-1)
    return bias


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
