"""Routing in pieces: scores exist for one chunk of queries and their candidates at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels.blocks import for_each
from mocgen_kernels.layout import ContextLayout, piece_of
from mocgen_kernels.noise import Stream, random_ranks, random_rows, resolve_seed
from mocgen_kernels.perturb import drop_off_drop_in
from mocgen_kernels.rules import Routing, candidate_table, query_groups, static_table
from mocgen_kernels.selection import Selection, pack_bits, words_for
from mocgen_kernels.top_k import best

_CHUNK_ELEMENTS = 1 << 19


def pool_descriptors(k: Tensor, layout: ContextLayout, *, sub_descriptors: int = 1) -> Tensor:
    """Mean key of every context, or of r equal pieces of each: (B, L, H, D) → (B, C · r, H, D) fp32.

    Piece j of n tokens begins at token ⌊j · n / r⌋ and has one token at least; so pieces of a context of
    less than r tokens repeat.
    """
    batch, _, heads, dim = k.shape
    shape = (batch, layout.count, sub_descriptors, heads, dim)
    out = torch.empty(shape, dtype=torch.float32, device=k.device)
    if k.device.type == "cpu":

        def work(head: int) -> None:
            _pool(k[:, :, head : head + 1], layout, out[..., head : head + 1, :])

        for_each(range(heads), work, numbers=k.numel())
    else:
        _pool(k, layout, out)
    return out.flatten(1, 2)


def _pool(k: Tensor, layout: ContextLayout, out: Tensor) -> None:
    """Write the means of k (B, L, H, D) into out (B, C, r, H, D), neighbours of equal length in one pass."""
    context, pieces = 0, out.shape[2]
    for length, run in groupby(layout.lengths):
        count, start = len(list(run)), layout.offsets[context]
        keys = k.detach()[:, start : start + count * length].unflatten(1, (count, length))
        for piece in range(pieces):
            means = out[:, context : context + count, piece]
            torch.mean(keys[:, :, piece_of(length, piece, pieces)], dim=2, dtype=torch.float32, out=means)
        context += count


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
            means = pool_descriptors(k, layout, sub_descriptors=routing.sub_descriptors)
        chooser = _Chooser(
            layout=layout,
            routing=routing,
            means=means,
            table=table,
            seed=resolve_seed(generator) if routing.draws else 0,
            query_length=query_length,
        )
        words = chooser.words(q)
    return Selection(
        layout=layout,
        routing=routing,
        batch=batch,
        heads=heads,
        query_length=query_length,
        words=words,
    )


def _perturbed(table: Tensor, layout: ContextLayout, first: int, routing: Routing) -> bool:
    """Whether drop-off or drop-in can change a static choice."""
    if int(routing.drop_off * int(table.sum(dim=1).max())) > 0:
        return True
    groups = query_groups(layout, first, routing)
    return routing.drop_in > 0 and any(len(g.candidates) > int(table[g.first].sum()) for g in groups)


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Neighbouring queries that are scored together, against the candidates of any of them."""

    start: int  # first query
    stop: int  # one past the last
    candidates: Tensor  # (n,) contexts
    allowed: Tensor  # (n, Q) bool


@dataclass(frozen=True, kw_only=True)
class _Chooser:
    """Chooses contexts for one chunk of queries after the other."""

    layout: ContextLayout
    routing: Routing
    means: Tensor | None  # (B, C · r, H, D) fp32
    table: Tensor | None  # (Cq, C) bool: the choice, where it is static
    seed: int
    query_length: int

    @property
    def first(self) -> int:
        """Context of the first query."""
        return self.layout.first_query_context(self.query_length)

    def words(self, q: Tensor) -> Tensor:
        """Bits of the routed contexts: q (B, Lq, H, D) → (B, H, Lq, W) int32."""
        batch, query_length, heads = q.shape[:3]
        shape = (batch, heads, query_length, words_for(self.layout.count))
        words = torch.zeros(shape, dtype=torch.int32, device=q.device)
        chunks = list(self.chunks(max(1, _CHUNK_ELEMENTS // (batch * heads)), q.device))

        def work(chunk: _Chunk) -> None:
            words[:, :, chunk.start : chunk.stop] = self.bits(q[:, chunk.start : chunk.stop], chunk)

        if q.device.type == "cpu":
            for_each(chunks, work, numbers=max(q.numel(), batch * heads * query_length * self.layout.count))
        else:
            for chunk in chunks:
                work(chunk)
        return words

    def chunks(self, elements: int, device: torch.device) -> Iterator[_Chunk]:
        """Chunks of about `elements` pairs of query and candidate; not of queries without candidates."""
        table = candidate_table(self.layout, self.first, self.routing)  # (Cq, C)
        contexts = self.layout.token_contexts()[-self.query_length :] - self.first  # (Lq,)
        groups = query_groups(self.layout, self.first, self.routing)
        share = (
            -(-self.query_length // torch.get_num_threads()) if device.type == "cpu" else self.query_length
        )
        step = min(share, max(1, elements // max(1, len(groups[-1].candidates))))
        for _, run in groupby(groups, key=lambda group: len(group.candidates) > self.routing.top_k):
            begin, *_, end = [bound for group in run for bound in (group.start, group.stop)]
            for start in range(begin, end, step):
                stop = min(start + step, end)
                present, lengths = contexts[start:stop].unique_consecutive(return_counts=True)
                candidates = table[present].any(dim=0).nonzero().flatten()
                if len(candidates) == 0:
                    continue
                columns = (
                    table[present][:, candidates].t().split(1, dim=1)
                )  # of one query context each: (n, 1)
                allowed = torch.cat(
                    [x.expand(-1, n) for x, n in zip(columns, lengths.tolist(), strict=True)], dim=1
                )
                yield _Chunk(
                    start=start, stop=stop, candidates=candidates.to(device), allowed=allowed.to(device)
                )

    def bits(self, q: Tensor, chunk: _Chunk) -> Tensor:
        """Bits for the queries q (B, Q, H, D) of a chunk: (B, H, Q, W) int32."""
        batch, length, heads = q.shape[:3]
        begin = self.layout.length - self.query_length + chunk.start
        positions = torch.arange(begin, begin + length, device=q.device)
        routed = self.choose(q, chunk, positions)  # (B, H, n, Q)
        if self.routing.perturbs:
            where = (self.routing, self.seed, positions, chunk.candidates)
            routed = drop_off_drop_in(routed.transpose(2, 3), chunk.allowed.t(), *where).transpose(2, 3)
        bits = routed.new_zeros(batch, heads, self.layout.count, length)
        return pack_bits(bits.index_copy_(2, chunk.candidates, routed).transpose(2, 3))

    def choose(self, q: Tensor, chunk: _Chunk, positions: Tensor) -> Tensor:
        """Routed ones among the candidates, before drop-off and drop-in: (B, H, n, Q) bool."""
        batch, _, heads = q.shape[:3]
        shape = (batch, heads, *chunk.allowed.shape)
        if self.table is not None:
            rows = self.layout.token_contexts()[positions.cpu()] - self.first  # (Q,)
            return self.table[rows][:, chunk.candidates.cpu()].t().to(q.device).expand(shape)
        if self.routing.policy == "random":
            rows = random_rows(self.seed, Stream.POLICY, batch, heads, positions)
            ranks = random_ranks(rows, chunk.candidates).transpose(2, 3)  # (B, H, n, Q)
            return best(ranks, chunk.allowed, self.routing.top_k)
        with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
            scores = self.scores(q, chunk.candidates)
            return best(scores, chunk.allowed, self.routing.top_k, q.shape[-1] ** -0.5, self.routing.top_p)

    def scores(self, q: Tensor, candidates: Tensor) -> Tensor:
        """The highest product of q (B, Q, H, D) with a candidate's descriptors: (B, H, n, Q) fp32."""
        assert self.means is not None
        pieces = self.routing.sub_descriptors
        means = self.means.unflatten(1, (-1, pieces))[:, candidates].permute(0, 3, 2, 1, 4)  # (B, H, r, n, D)
        scores = means @ q.float().permute(0, 2, 3, 1)[:, :, None]  # (B, H, r, n, Q)
        return scores[:, :, 0] if pieces == 1 else scores.amax(dim=2)
