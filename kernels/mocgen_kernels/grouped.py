"""Attention group by group: a group of queries sees only the keys that some of its queries may attend to.

Differentiable by composition and works on any device. Unmasked where the selection is static (then all the
work is needed). Where it is not, the mask is folded into the product: queries get a further dimension per
context, which holds 0 where they attend to it and a large negative number where not; keys of that context
hold 1 there. So no mask is built or read, and fused attention without masks applies. Masks are left for many
contexts, for fp16, whose numbers are not large enough, and for compensation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels.blocks import keep_freed_memory
from mocgen_kernels.compensation import bias_dtype, context_means, log_lengths
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import (
    QueryGroup,
    QueryRun,
    Routing,
    anchor_table,
    candidate_table,
    query_runs,
    runs_of_equal_rows,
    static_table,
)
from mocgen_kernels.selection import Selection, unpack_bits

MOST_LOGITS = 2**21  # that may be kept for a backward pass; for more, new pages of memory cost too much
_FAR_BELOW = -1e9  # no logit comes near, and exp of it is 0
_MOST_DIMS = 256  # of fused attention on GPUs
_PAIRS_PER_CALL = 2**15  # more pairs in one head cost less than another call


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """As `reference.routed_attention`: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    if selection.words is not None and not compensate and foldable(selection, q.shape[-1], q.dtype):
        parts = _folded_parts(q, k, v, selection)
    else:
        scene = _Scene(k, v, *(context_means(x, selection.layout) if compensate else None for x in (k, v)))
        if selection.words is None:
            parts = _static_parts(q, scene, selection)
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


def _static_parts(q: Tensor, scene: _Scene, selection: Selection) -> list[Tensor]:
    """One attention per run of queries that attend to the same contexts; unmasked but for compensation."""
    layout, parts = selection.layout, []
    for run in static_runs(layout, selection.first_query_context, selection.routing):
        summarised = run.skipped if scene.k_means is not None else ()
        keys, values = scene.take(layout, run.attended, summarised)
        bias = None
        if summarised:
            lengths = log_lengths(layout, bias_dtype(q))[list(summarised)].to(q.device)
            bias = torch.cat((lengths.new_zeros(keys.shape[1] - len(summarised)), lengths))[None, None, None]
        parts.append(attend(q[:, run.queries], keys, values, bias))
    return parts


class StaticRun(NamedTuple):
    """Neighbouring queries that attend to the same contexts."""

    queries: slice  # tokens, counted from the first query
    attended: tuple[int, ...]  # contexts
    skipped: tuple[int, ...]  # candidates


@lru_cache(maxsize=16)
def static_runs(layout: ContextLayout, first: int, routing: Routing) -> tuple[StaticRun, ...]:
    """Cut the queries from context `first` on where what they attend to changes; for static choices."""
    table = static_table(layout, first, routing)
    assert table is not None
    attended = table | anchor_table(layout, first, routing)  # (Cq, C)
    skipped = candidate_table(layout, first, routing) & ~table
    return tuple(
        StaticRun(
            layout.query_span(first, begin, end),
            tuple(attended[begin].nonzero().flatten().tolist()),
            tuple(skipped[begin].nonzero().flatten().tolist()),
        )
        for begin, end in runs_of_equal_rows(torch.cat([attended, skipped], dim=1))
    )


def foldable(selection: Selection, dim: int, dtype: torch.dtype) -> bool:
    """Whether a mask over so many contexts is better folded into the product."""
    extra = folded_dims(selection)
    return dtype is not torch.float16 and extra <= 2 * dim and dim + extra <= _MOST_DIMS


def folded_dims(selection: Selection) -> int:
    """Dimensions that the folded mask takes, a multiple of 8."""
    return -(-selection.layout.count // 8) * 8


def folded_runs(selection: Selection) -> tuple[QueryRun, ...]:
    """Runs of queries that attend in one call."""
    return query_runs(
        selection.layout,
        selection.first_query_context,
        selection.routing,
        block=(selection.query_length, selection.layout.length),
        pairs_per_block=_PAIRS_PER_CALL,
    )


def _folded_parts(q: Tensor, k: Tensor, v: Tensor, selection: Selection) -> list[Tensor]:
    """One attention per run, the mask folded into queries (B, Lq, H, D + n) and keys (B, L, H, D + n)."""
    layout, extra = selection.layout, folded_dims(selection)
    attended = (selection.routed() | selection.anchors()).transpose(1, 2)  # (B, Lq, H, C)
    bias = torch.zeros(*q.shape[:3], extra, dtype=q.dtype, device=q.device)
    bias[..., : layout.count].masked_fill_(~attended, _FAR_BELOW)
    marks = torch.nn.functional.one_hot(layout.token_contexts(k.device), extra).to(k.dtype)  # (L, n)
    q = torch.cat((q, bias), dim=-1)
    k = torch.cat((k, marks[None, :, None].expand(*k.shape[:3], extra)), dim=-1)
    return [attend(q[:, run.queries], k[:, run.keys], v[:, run.keys], None) for run in folded_runs(selection)]


def _masked_part(q: Tensor, scene: _Scene, selection: Selection, group: QueryGroup) -> Tensor:
    """Attention of one group to its anchors and candidates, masked where a candidate was not chosen."""
    layout = selection.layout
    contexts = sorted([*group.anchors, *group.candidates])
    summarised = group.candidates if scene.k_means is not None else ()
    keys, values = scene.take(layout, contexts, summarised)
    bias = _bias(selection, group, contexts, summarised, q)
    if bias is None:
        keys, values = (x[:, : sum(layout.lengths[c] for c in contexts)] for x in (keys, values))
    return attend(q[:, group.start : group.stop], keys, values, bias)


def _bias(
    selection: Selection, group: QueryGroup, contexts: list[int], summarised: Sequence[int], q: Tensor
) -> Tensor | None:
    """What to add to the logits, (B, H, Q, n + m); None if all contexts are attended to.

    0 for tokens of attended contexts, log n for the mean of a skipped one, −inf elsewhere.
    """
    assert selection.words is not None
    layout, device = selection.layout, q.device
    attended = unpack_bits(selection.words[:, :, group.start : group.stop], layout.count)  # (B, H, Q, C)
    attended[..., list(group.anchors)] = True
    if bool(attended[..., contexts].all()):
        return None
    lengths = torch.tensor([layout.lengths[c] for c in contexts], device="cpu")
    tokens = torch.tensor(contexts, device="cpu").repeat_interleave(lengths).to(device)  # (n,)
    dtype = bias_dtype(q) if summarised else q.dtype
    bias = torch.zeros(attended.shape, dtype=dtype, device=device).masked_fill_(~attended, -torch.inf)
    bias = bias.index_select(-1, tokens)
    if summarised:
        logs = log_lengths(layout, bias.dtype)[list(summarised)].to(device)
        means = torch.where(attended[..., list(summarised)], -torch.inf, logs)
        bias = torch.cat((bias, means), dim=-1)
    return bias


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax attention; q and k may have more dimensions than v (B, m, H, D), which sets the scale."""
    dim = v.shape[-1]
    scale, folded = dim**-0.5, q.shape[-1] - dim
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if _matmuls_are_faster(q, k):
        keep_freed_memory()
        logits = q @ k.transpose(-1, -2) * scale
        weights = torch.softmax(logits if bias is None else logits + bias, dim=-1)
        return (weights @ v).transpose(1, 2)
    values = torch.nn.functional.pad(v, (0, folded)) if folded else v
    return scaled_dot_product_attention(q, k, values, attn_mask=bias, scale=scale).transpose(1, 2)[..., :dim]


def _matmuls_are_faster(q: Tensor, k: Tensor) -> bool:
    """The backward pass of fused attention takes 2 to 3 times as long on some CPUs, on others as long."""
    learning = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    logits = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    exact = q.dtype.itemsize >= 4  # products of 16 bits would round logits
    return learning and exact and q.device.type == "cpu" and logits <= MOST_LOGITS
