"""Attention with every choice of Mixture of Contexts open; one dense mask, for short sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mocgen.model.attention import Attention, AttentionContext
from mocgen.model.rope import rotate
from mocgen_kernels import ContextLayout, Kind

from .variants import Variant


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Who may attend to whom. L tokens in C contexts."""

    contexts: Tensor  # (L,) the context of each token
    anchors: Tensor  # (L, L) bool, tokens that are always attended
    candidates: Tensor  # (L, C) bool, contexts that may be routed to


def rules(layout: ContextLayout, variant: Variant) -> Rules:
    """The rules of a variant for one layout."""
    own = layout.token_contexts()  # (L,) as cut at captions, shots and frames
    index = torch.arange(layout.length)
    shots = torch.tensor(layout.shots)[own]  # (L,)
    text = torch.tensor([kind is Kind.TEXT for kind in layout.kinds])[own]  # (L,)
    same_shot = shots[:, None] == shots
    anchors = (index[:, None] == index) | (shots < 0)[None]
    if variant.caption_anchor:
        anchors = anchors | (same_shot & text)
    if variant.shot_anchor:
        anchors = anchors | (same_shot & ~text)
    contexts = index // variant.uniform if variant.uniform else own
    members = F.one_hot(contexts).bool().T  # (C, L)
    later = index[:, None] < index  # of the own shot nothing is later
    late = later & ~same_shot if variant.causal else torch.zeros_like(same_shot)
    any_open = (~anchors).float() @ members.T.float() > 0  # (L, C) something of it is not attended anyway
    any_late = late.float() @ members.T.float() > 0
    return Rules(contexts=contexts, anchors=anchors, candidates=any_open & ~any_late)


class AblatedAttention(Attention):
    """Attention of a model's block in one of the variants."""

    def __init__(self, width: int, heads: int, layer: int, variant: Variant) -> None:
        super().__init__(width, heads, layer, rotated_routing=variant.rotated)
        self.variant = variant
        self._known: tuple[ContextLayout, Rules] | None = None

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:  # (B, L, W)
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).unbind(2)
        q = F.rms_norm(q, q.shape[-1:]) * self.q_scale.to(q.dtype)
        k = F.rms_norm(k, k.shape[-1:]) * self.k_scale.to(k.dtype)
        turned_q, turned_k = rotate(q, context.angles), rotate(k, context.angles)
        of_router = (turned_q, turned_k) if self.variant.rotated else (q, k)
        mask = self.attended(*of_router, context)
        attended = F.scaled_dot_product_attention(
            turned_q.transpose(1, 2), turned_k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
        )  # (B, H, L, D)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width))

    @torch.no_grad()
    def attended(self, q: Tensor, k: Tensor, context: AttentionContext) -> Tensor:
        """Which tokens each query attends to: q, k (B, L, H, D) → (B, H, L, L) bool."""
        if self._known is None or self._known[0] != context.layout:
            self._known = (context.layout, rules(context.layout, self.variant))
        found, routing = self._known[1], context.routing
        scores = self._scores(q.float(), k.float(), found)  # (B, H, L, C)
        scores = scores.masked_fill(~found.candidates, -torch.inf)
        top = scores.topk(min(routing.top_k, scores.shape[-1]), dim=-1).indices
        routed = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, top, True) & found.candidates
        if self.training and self.variant.drops:
            share = routing.drop_off * torch.rand(routed.shape[:-1], generator=context.generator)
            kept = torch.rand(routed.shape, generator=context.generator) >= share[..., None]
            chance = routing.drop_in / found.candidates.sum(-1, keepdim=True).clamp(min=1)  # (L, 1)
            added = torch.rand(routed.shape, generator=context.generator) < chance
            routed = (routed & kept) | (added & found.candidates)
        return found.anchors | routed[..., found.contexts]

    def _scores(self, q: Tensor, k: Tensor, found: Rules) -> Tensor:
        """q · descriptor, the best where a context has several: (B, H, L, C)."""
        parts = self.variant.descriptors
        count = int(found.contexts.max()) + 1
        places = torch.zeros_like(found.contexts)
        for context in range(count):
            rows = (found.contexts == context).nonzero().flatten()
            places[rows] = torch.arange(len(rows)) * parts // len(rows)
        which = F.one_hot(found.contexts * parts + places, count * parts).float()  # (L, C · parts)
        size = which.sum(0)
        means = torch.einsum("blhd,lc->bhcd", k, which / size.clamp(min=1))
        scores = torch.einsum("blhd,bhcd->bhlc", q, means).masked_fill(size == 0, -torch.inf)
        return scores.unflatten(-1, (count, parts)).amax(-1)
