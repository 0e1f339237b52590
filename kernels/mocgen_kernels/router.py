"""Routing in pieces: scores exist for one chunk of queries and their candidates at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.noise import Stream, random_ranks, random_rows, resolve_seed
from mocgen_kernels.perturb import drop_off_drop_in
from mocgen_kernels.rules import QueryGroup, Routing, query_groups, static_table
from mocgen_kernels.selection import Selection, pack_bits, words_for

_CHUNK_ELEMENTS = 1 << 22


def pool_descriptors(k: Tensor, layout: ContextLayout) -> Tensor:
    """Mean key of every context: (B, L, H, D) → (B, C, H, D) fp32. Neighbours of equal length in one pass."""
    batch, _, heads, dim = k.shape
    out = torch.empty(batch, layout.count, heads, dim, dtype=torch.float32, device=k.device)
    context = 0
    for length, run in groupby(layout.lengths):
        count, start = len(list(run)), layout.offsets[context]
        keys = k.detach()[:, start : start + count * length].unflatten(1, (count, length))
        torch.mean(keys, dim=2, dtype=torch.float32, out=out[:, context : context + count])
        context += count
    return out


def route_by(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    routing: Routing,
    generator: torch.Generator | int | None,
    means: Tensor | None,
) -> Selection:
    """As `reference.route_by`. Where tokens have no say the selection is a table and nothing is scored."""
    batch, query_length, heads = q.shape[:3]
    first = layout.first_query_context(query_length)
    table = static_table(layout, first, routing)
    words = None
    if table is None or _perturbed(table, layout, first, routing):
        if table is None and routing.policy == "moc" and means is None:
            if k is None:
                raise ValueError("route needs keys or descriptors")
            means = pool_descriptors(k, layout)
        chooser = _Chooser(
            layout=layout,
            routing=routing,
            means=means,
            table=table,
            seed=resolve_seed(generator) if routing.draws else 0,
            query_length=query_length,
        )
        words = chooser.words(q)
        table = None
    return Selection(
        layout=layout,
        causal=routing.causal,
        text_anchors=routing.text_anchors,
        batch=batch,
        heads=heads,
        query_length=query_length,
        budget=routing.budget(layout.count),
        table=table,
        words=words,
    )


def _perturbed(table: Tensor, layout: ContextLayout, first: int, routing: Routing) -> bool:
    """Whether drop-off or drop-in can change a static choice."""
    if int(routing.drop_off * int(table.sum(dim=1).max())) > 0:
        return True
    groups = query_groups(layout, first, routing.text_anchors, routing.causal)
    return routing.drop_in > 0 and any(len(g.candidates) > int(table[g.first].sum()) for g in groups)


@dataclass(frozen=True, kw_only=True)
class _Chooser:
    """Chooses contexts for one chunk of queries after the other."""

    layout: ContextLayout
    routing: Routing
    means: Tensor | None  # (B, C, H, D) fp32
    table: Tensor | None  # (Cq, C) bool: the choice, where it is static
    seed: int
    query_length: int

    def words(self, q: Tensor) -> Tensor:
        """Bits of the routed contexts: q (B, Lq, H, D) → (B, H, Lq, W) int32."""
        batch, query_length, heads = q.shape[:3]
        layout, routing = self.layout, self.routing
        shape = (batch, heads, query_length, words_for(layout.count))
        words = torch.zeros(shape, dtype=torch.int32, device=q.device)
        first = layout.first_query_context(query_length)
        for group in query_groups(layout, first, routing.text_anchors, routing.causal):
            if not group.candidates:
                continue
            step = max(1, _CHUNK_ELEMENTS // (batch * heads * len(group.candidates)))
            for start in range(group.start, group.stop, step):
                stop = min(start + step, group.stop)
                words[:, :, start:stop] = self.chunk(q[:, start:stop], group, start)
        return words

    def chunk(self, q: Tensor, group: QueryGroup, start: int) -> Tensor:
        """Bits for the queries q (B, Q, H, D), the first of which is query `start`: (B, H, Q, W) int32."""
        batch, length, heads = q.shape[:3]
        candidates = torch.tensor(group.candidates, device=q.device)  # (n,)
        begin = self.layout.length - self.query_length + start
        positions = torch.arange(begin, begin + length, device=q.device)
        routed = self.choose(q, group, candidates, positions)  # (B, H, Q, n)
        if self.routing.perturbs:
            allowed = torch.ones_like(candidates, dtype=torch.bool)
            routed = drop_off_drop_in(routed, allowed, self.routing, self.seed, positions, candidates)
        bits = routed.new_zeros(batch, heads, length, self.layout.count)
        bits[..., candidates] = routed
        return pack_bits(bits)

    def choose(self, q: Tensor, group: QueryGroup, candidates: Tensor, positions: Tensor) -> Tensor:
        """Routed ones among the candidates, before drop-off and drop-in: (B, H, Q, n) bool."""
        batch, length, heads = q.shape[:3]
        if self.table is not None:
            static = self.table[group.first, candidates.cpu()].to(q.device)
            return static.expand(batch, heads, length, -1)
        if len(candidates) <= self.routing.top_k:
            return candidates.new_ones(batch, heads, length, len(candidates), dtype=torch.bool)
        if self.routing.policy == "random":
            rows = random_rows(self.seed, Stream.POLICY, batch, heads, positions)
            return best(random_ranks(rows, candidates), self.routing.top_k)
        assert self.means is not None
        with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
            means = self.means[:, candidates].permute(0, 2, 3, 1)  # (B, H, D, n)
            return best(q.float().transpose(1, 2) @ means, self.routing.top_k)


def best(scores: Tensor, top_k: int) -> Tensor:
    """The top_k < n highest of every row, the lower index among equals: (..., n) → (..., n) bool."""
    values, index = scores.topk(top_k + 1, dim=-1)
    if (values[..., -2:-1] == values[..., -1:]).any():
        index = scores.argsort(dim=-1, descending=True, stable=True)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(-1, index[..., :top_k], True)
