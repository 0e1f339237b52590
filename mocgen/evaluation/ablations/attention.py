"""Attention with every choice of Mixture of Contexts open; one dense mask, for short sequences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
    parts: Tensor  # (L, C · descriptors), one-hot: the part of its context that each token is in


@lru_cache(maxsize=2)
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
    return Rules(
        contexts=contexts,
        anchors=anchors,
        candidates=any_open & ~any_late,
        parts=_parts(contexts, variant.descriptors),
    )


def _parts(contexts: Tensor, count: int) -> Tensor:
    """Each context cut into `count` parts of like length, some empty where it is shorter: (L, C · count)."""
    places = torch.zeros_like(contexts)
    total = int(contexts.max()) + 1
    for context in range(total):
        rows = (contexts == context).nonzero().flatten()
        places[rows] = torch.arange(len(rows)) * count // len(rows)
    return F.one_hot(contexts * count + places, total * count).float()


class AblatedAttention(Attention):
    """Attention of a model's block in one of the variants."""

    def __init__(self, width: int, heads: int, layer: int, variant: Variant) -> None:
        super().__init__(width, heads, layer, rotated_routing=variant.rotated)
        self.variant = variant

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:  # (B, L, W)
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).unbind(2)
        q = F.rms_norm(q, q.shape[-1:]) * self.q_scale.to(q.dtype)
        k = F.rms_norm(k, k.shape[-1:]) * self.k_scale.to(k.dtype)
        turned_q, turned_k = rotate(q, context.angles), rotate(k, context.angles)
        of_router = (turned_q, turned_k) if self.variant.rotated else (q, k)
        mask = self.attended(*of_router, context)
        turned_q, turned_k, v = (x.transpose(1, 2) for x in (turned_q, turned_k, v))  # (B, H, L, D)
        scores = turned_q @ turned_k.transpose(-1, -2) * turned_q.shape[-1] ** -0.5
        # written out: on a CPU faster, forwards and backwards, than a fused kernel with a mask for every head
        attended = scores.masked_fill(~mask, -torch.inf).softmax(-1).to(v.dtype) @ v
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width))

    @torch.no_grad()
    def attended(self, q: Tensor, k: Tensor, context: AttentionContext) -> Tensor:
        """Which tokens each query attends to: q, k (B, L, H, D) → (B, H, L, L) bool."""
        found, routing = rules(context.layout, self.variant), context.routing
        if routing.top_k >= found.candidates.shape[1]:
            everything = found.anchors | found.candidates[:, found.contexts]
            return everything.expand(len(q), self.heads, -1, -1)
        scores = self._scores(q.float(), k.float(), found)  # (B, H, L, C)
        if not self.variant.by_score:
            scores = torch.rand(scores.shape, generator=context.generator)
        scores = scores.masked_fill(~found.candidates, -torch.inf)
        top = scores.topk(routing.top_k, dim=-1).indices
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
        size = found.parts.sum(0)
        means = torch.einsum("blhd,lc->bhcd", k, found.parts / size.clamp(min=1))
        scores = torch.einsum("blhd,bhcd->bhlc", q, means).masked_fill(size == 0, -torch.inf)
        return scores.unflatten(-1, (-1, self.variant.descriptors)).amax(-1)
