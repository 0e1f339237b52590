"""The specification: Mixture of Contexts in plain PyTorch, with every score and mask written out.

Source: Cai et al., "Mixture of Contexts for Long Video Generation", arXiv 2508.21058, section 3.
Memory grows with Lq · L; the other backends give the same results without that.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels.compensation import bias_dtype, log_lengths
from mocgen_kernels.layout import ContextLayout, piece_of
from mocgen_kernels.noise import Stream, random_ranks, random_rows, resolve_seed
from mocgen_kernels.perturb import drop_off_drop_in
from mocgen_kernels.rules import Policy, Routing, TextAnchors, candidate_table, static_table
from mocgen_kernels.selection import Selection, pack_bits


def descriptors(k: Tensor, layout: ContextLayout, sub_descriptors: int = 1) -> Tensor:
    """Mean key of every context, or of r pieces of each: (B, L, H, D) → (B, C · r, H, D) fp32."""
    parts = k.detach().float().split(list(layout.lengths), dim=1)  # C × (B, n, H, D)
    pieces = [
        part[:, piece_of(part.shape[1], piece, sub_descriptors)]
        for part in parts
        for piece in range(sub_descriptors)
    ]
    return torch.stack([piece.mean(dim=1) for piece in pieces], dim=1)


def scores(q: Tensor, descriptors: Tensor, sub_descriptors: int = 1) -> Tensor:
    """Dot products of queries and descriptors, the highest of every context: (B, H, Lq, C) fp32."""
    with torch.autocast(q.device.type, enabled=False):
        products = torch.einsum("bqhd,bchd->bhqc", q.detach().float(), descriptors.float())
        return products.unflatten(-1, (-1, sub_descriptors)).amax(dim=-1)


def route(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    *,
    top_k: int = 5,
    causal: bool = True,
    policy: Policy = "moc",
    text_anchors: TextAnchors = "own",
    local_window: int | None = None,
    first_frame: bool = False,
    top_p: float = 1.0,
    sub_descriptors: int = 1,
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
        local_window=local_window,
        first_frame=first_frame,
        top_p=top_p,
        sub_descriptors=sub_descriptors,
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
    table = candidate_table(layout, first, routing).to(q.device)
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
            means = descriptors(k, layout, routing.sub_descriptors)
        masked = scores(q, means, routing.sub_descriptors).masked_fill(~candidates, -torch.inf)
        routed = best(masked, candidates, routing.top_k)
        if routing.top_p < 1:
            routed &= nucleus(masked / q.shape[-1] ** 0.5, routing.top_p)
    routed = drop_off_drop_in(routed, candidates, routing, seed, positions, contexts)
    return Selection(
        layout=layout,
        routing=routing,
        batch=batch,
        heads=heads,
        query_length=query_length,
        words=pack_bits(routed),
    )


def best(scores: Tensor, candidates: Tensor, top_k: int) -> Tensor:
    """The top_k candidates of highest score in every row; of equals the lower index: (B, H, Lq, C) bool."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    positions = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, positions)
    return (rank < top_k) & candidates


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The fewest of every row, in falling order, whose softmax sums up to top_p: bool of the same shape."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    mass = logits.softmax(dim=-1).gather(-1, order)
    taken = mass.cumsum(dim=-1) - mass < top_p
    return torch.zeros_like(taken).scatter_(-1, order, taken)


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, selection: Selection, *, compensate: bool = False
) -> Tensor:
    """Softmax attention over the selected tokens: q (B, Lq, H, D), k and v (B, L, H, D) → (B, Lq, H, D)."""
    mask = selection.dense_mask().to(q.device)  # (B, H, Lq, L)
    if compensate:
        k_means, v_means = (_means(x, layout) for x in (k, v))
        k, v = torch.cat((k, k_means), dim=1), torch.cat((v, v_means), dim=1)
        bias = torch.where(mask, 0.0, -torch.inf)
        skipped = selection.skipped().to(q.device)  # (B, H, Lq, C)
        logs = log_lengths(layout, bias_dtype(q)).to(q.device)
        mask = torch.cat((bias.to(logs.dtype), torch.where(skipped, logs, -torch.inf)), dim=-1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _means(x: Tensor, layout: ContextLayout) -> Tensor:
    """Mean of every context, differentiable: (B, L, H, D) → (B, C, H, D)."""
    parts = x.split(list(layout.lengths), dim=1)
    precise = torch.promote_types(x.dtype, torch.float32)
    return torch.stack([part.mean(dim=1, dtype=precise).to(x.dtype) for part in parts], dim=1)


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
    local_window: int | None = None,
    first_frame: bool = False,
    top_p: float = 1.0,
    sub_descriptors: int = 1,
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    generator: torch.Generator | int | None = None,
    descriptors: Tensor | None = None,
    compensate: bool = False,
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
        local_window=local_window,
        first_frame=first_frame,
        top_p=top_p,
        sub_descriptors=sub_descriptors,
        drop_off=drop_off,
        drop_in=drop_in,
        generator=generator,
        descriptors=descriptors,
    )
    return routed_attention(q, k, v, layout, selection, compensate=compensate)
