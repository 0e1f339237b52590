"""The specification: Mixture of Contexts in plain PyTorch, with every score and mask written out.

Source: Cai et al., "Mixture of Contexts for Long Video Generation", arXiv 2508.21058, section 3.
Memory grows with Lq · L; the other backends give the same results without that.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.noise import Stream, random_ranks, random_rows, resolve_seed
from mocgen_kernels.perturb import drop_off_drop_in
from mocgen_kernels.rules import Policy, Routing, TextAnchors, candidate_table, static_table
from mocgen_kernels.selection import Selection, pack_bits


def descriptors(k: Tensor, layout: ContextLayout) -> Tensor:
    """Mean key of every context: (B, L, H, D) → (B, C, H, D) fp32."""
    parts = k.detach().float().split(list(layout.lengths), dim=1)  # C × (B, n, H, D)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def scores(q: Tensor, descriptors: Tensor) -> Tensor:
    """Dot products of queries and descriptors: (B, H, Lq, C) fp32."""
    with torch.autocast(q.device.type, enabled=False):
        return torch.einsum("bqhd,bchd->bhqc", q.detach().float(), descriptors.float())


def route(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    *,
    top_k: int = 5,
    causal: bool = True,
    policy: Policy = "moc",
    text_anchors: TextAnchors = "own",
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    generator: torch.Generator | int | None = None,
    descriptors: Tensor | None = None,
) -> Selection:
    """Choose contexts for every query and head; see `mocgen_kernels.route`."""
    routing = Routing(
        top_k=top_k,
        causal=causal,
        policy=policy,
        text_anchors=text_anchors,
        drop_off=drop_off,
        drop_in=drop_in,
    )
    return route_by(q, k, layout, routing, generator, descriptors)


def route_by(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    routing: Routing,
    generator: torch.Generator | int | None,
    means: Tensor | None,
) -> Selection:
    """`route`, its options in one object."""
    batch, query_length, heads = q.shape[:3]
    first = layout.first_query_context(query_length)
    query_contexts = layout.token_contexts(q.device)[-query_length:] - first  # (Lq,)
    table = candidate_table(layout, first, routing.text_anchors, routing.causal).to(q.device)
    candidates = table[query_contexts]  # (Lq, C)
    seed = resolve_seed(generator) if routing.draws else 0
    positions = torch.arange(layout.length - query_length, layout.length, device=q.device)
    contexts = torch.arange(layout.count, device=q.device)
    static = static_table(layout, first, routing)
    if static is not None:
        routed = static.to(q.device)[query_contexts].expand(batch, heads, -1, -1)  # (B, H, Lq, C)
    elif routing.policy == "random":
        noise = random_ranks(random_rows(seed, Stream.POLICY, batch, heads, positions), contexts)
        routed = best(noise.masked_fill(~candidates, -1), candidates, routing.top_k)
    else:
        if means is None:
            if k is None:
                raise ValueError("route needs keys or descriptors")
            means = descriptors(k, layout)
        masked = scores(q, means).masked_fill(~candidates, -torch.inf)
        routed = best(masked, candidates, routing.top_k)
    routed = drop_off_drop_in(routed, candidates, routing, seed, positions, contexts)
    return Selection(
        layout=layout,
        causal=routing.causal,
        text_anchors=routing.text_anchors,
        batch=batch,
        heads=heads,
        query_length=query_length,
        budget=routing.budget(layout.count),
        words=pack_bits(routed),
    )


def best(scores: Tensor, candidates: Tensor, top_k: int) -> Tensor:
    """The top_k candidates of highest score in every row; of equals the lower index: (B, H, Lq, C) bool."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    positions = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, positions)
    return (rank < top_k) & candidates


def routed_attention(q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, selection: Selection) -> Tensor:
    """Softmax attention over the selected tokens: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    mask = selection.dense_mask().to(q.device)  # (B, H, Lq, L)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def moc_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: ContextLayout,
    *,
    top_k: int = 5,
    causal: bool = True,
    policy: Policy = "moc",
    text_anchors: TextAnchors = "own",
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    generator: torch.Generator | int | None = None,
    descriptors: Tensor | None = None,
) -> Tensor:
    """`route`, then `routed_attention`."""
    selection = route(
        q,
        k,
        layout,
        top_k=top_k,
        causal=causal,
        policy=policy,
        text_anchors=text_anchors,
        drop_off=drop_off,
        drop_in=drop_in,
        generator=generator,
        descriptors=descriptors,
    )
    return routed_attention(q, k, v, layout, selection)
