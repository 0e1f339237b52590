"""Routing in pieces: scores exist for one chunk of queries and their candidates at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels.blocks import Scratch, for_each, read_in_order, without_autocast, worth_threads
from mocgen_kernels.descriptors import by_head, pooled
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.noise import Stream, random_ranks, random_rows, resolve_seed
from mocgen_kernels.perturb import drop_off_drop_in
from mocgen_kernels.rules import Routing, candidate_table, query_groups, static_table
from mocgen_kernels.selection import Selection, pack_columns, words_for
from mocgen_kernels.top_k import Allowed, best

_CHUNK_ELEMENTS = 1 << 20  # scores; fit the caches of a CPU
_CHUNK_ELEMENTS_ELSEWHERE = 1 << 23  # every chunk waits for the device
_SHARES = 2  # of the work per thread


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
        pieces, descriptors = routing.sub_descriptors, None
        if means is not None:
            descriptors = by_head(means, pieces)
        elif table is None and routing.policy == "moc":
            if k is None:
                raise ValueError("route needs keys or descriptors")
            descriptors = pooled(k, layout, pieces)
        chooser = _Chooser(
            layout=layout,
            routing=routing,
            means=descriptors,
            table=table,
            seed=resolve_seed(generator) if routing.draws else 0,
            query_length=query_length,
            chunk_scores=_CHUNK_ELEMENTS if q.device.type == "cpu" else _CHUNK_ELEMENTS_ELSEWHERE,
        )
        words = chooser.words(q.detach())
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
    """Neighbouring queries that are scored together, against all contexts from the first candidate on."""

    start: int  # first query
    stop: int  # one past the last
    first: int  # first context, a multiple of 16
    allowed: Allowed  # (n, Q): which of the next n contexts are candidates

    @property
    def contexts(self) -> slice:
        """The contexts."""
        return slice(self.first, self.first + len(self.allowed.columns))


@lru_cache(maxsize=4)
def _chunk(
    layout: ContextLayout, routing: Routing, query_length: int, start: int, stop: int, device: torch.device
) -> _Chunk | None:
    """What queries `start` … `stop` − 1 have to choose from; None without candidates."""
    context = layout.first_query_context(query_length)
    contexts = layout.token_contexts()[-query_length:][start:stop] - context  # (Q,)
    present, lengths = contexts.unique_consecutive(return_counts=True)
    table = candidate_table(layout, context, routing)[present]  # (c, C)
    candidates = table.any(dim=0).nonzero().flatten().tolist()
    if not candidates:
        return None
    first = candidates[0] // 16 * 16
    allowed = Allowed(table[:, first : candidates[-1] + 1].t(), lengths.tolist(), device)
    return _Chunk(start=start, stop=stop, first=first, allowed=allowed)


@lru_cache(maxsize=16)
def _spans(
    layout: ContextLayout, first: int, routing: Routing, pairs: int, longest: int, scores: int
) -> tuple[slice, ...]:
    """Queries in chunks: so many scores of so many batch items and heads at a time."""
    groups = query_groups(layout, first, routing)
    most = max(len(group.candidates) for group in groups) * pairs
    step = min(longest, max(1, scores // max(1, most)))
    spans = list[slice]()
    for _, run in groupby(groups, key=lambda group: len(group.candidates) > routing.top_k):
        begin, *_, end = [bound for group in run for bound in (group.start, group.stop)]
        spans += [slice(start, min(start + step, end)) for start in range(begin, end, step)]
    return tuple(spans)


@dataclass(frozen=True, kw_only=True)
class _Heads:
    """Heads of batch items whose scores exist at the same time."""

    batch: slice
    heads: slice


@dataclass(frozen=True, kw_only=True)
class _Chooser:
    """Chooses contexts for one chunk of queries after the other."""

    layout: ContextLayout
    routing: Routing
    means: Tensor | None  # (B, H, r, C, D) fp32
    table: Tensor | None  # (Cq, C) bool: the choice, where it is static
    seed: int
    query_length: int
    chunk_scores: int  # that exist at the same time

    @property
    def first(self) -> int:
        """Context of the first query."""
        return self.layout.first_query_context(self.query_length)

    def words(self, q: Tensor) -> Tensor:
        """Bits of the routed contexts: q (B, Lq, H, D), detached → (B, H, Lq, W) int32."""
        batch, length, heads = q.shape[:3]
        words = torch.zeros(
            batch, heads, length, words_for(self.layout.count), dtype=torch.int32, device=q.device
        )
        halves, scratch = words.view(torch.int16), Scratch()

        def work(spans: Sequence[slice]) -> None:
            with without_autocast(q.device.type):
                for span in spans:
                    fill(span)

        def fill(span: slice) -> None:
            chunk = _chunk(self.layout, self.routing, self.query_length, span.start, span.stop, q.device)
            if chunk is None:
                return
            for some in self.heads(q, chunk):
                part = q[some.batch, span, some.heads]
                bits = pack_columns(self.routed(part, chunk, some, scratch))  # (B, H, Q, n / 16)
                begin = chunk.first // 16
                halves[some.batch, some.heads, span, begin : begin + bits.shape[-1]] = bits

        if q.device.type == "cpu":
            numbers = max(q.numel(), batch * heads * length * self.layout.count)
            workers = worth_threads(numbers)
            spans = self.spans(batch * heads, -(-length // workers))
            shares = min(_SHARES * workers, len(spans))
            for_each([spans[i::shares] for i in range(shares)], work, numbers=numbers)
        else:
            work(self.spans(batch * heads, length))
        return words

    def spans(self, pairs: int, longest: int) -> tuple[slice, ...]:
        """Queries in chunks of at most `longest`, for so many batch items and heads."""
        pairs = pairs if self.routing.draws else 1
        return _spans(self.layout, self.first, self.routing, pairs, longest, self.chunk_scores)

    def heads(self, q: Tensor, chunk: _Chunk) -> Iterator[_Heads]:
        """All heads, as many at a time as have `chunk_scores`; all if numbers are drawn."""
        batch, _, heads = q.shape[:3]
        if self.routing.draws:
            yield _Heads(batch=slice(0, batch), heads=slice(0, heads))
            return
        step = max(1, self.chunk_scores // chunk.allowed.columns.shape[0] // (chunk.stop - chunk.start))
        for item in range(batch):
            for start in range(0, heads, step):
                yield _Heads(batch=slice(item, item + 1), heads=slice(start, min(start + step, heads)))

    def routed(self, q: Tensor, chunk: _Chunk, some: _Heads, scratch: Scratch) -> Tensor:
        """Routed ones among the contexts of a chunk for its q (B, Q, H, D): (B, H, n, Q), see `best`."""
        routed = self.choose(q, chunk, some, scratch)
        if self.routing.perturbs:
            where = (self.routing, self.seed, *self.positions(chunk, q.device))
            routed = routed.bool().transpose(2, 3)
            routed = drop_off_drop_in(routed, chunk.allowed.mask.t(), *where).transpose(2, 3)
        return routed

    def positions(self, chunk: _Chunk, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens (Q,) and contexts (n,) of a chunk, counted from the first of all."""
        begin = self.layout.length - self.query_length
        tokens = torch.arange(begin + chunk.start, begin + chunk.stop, device=device)
        return tokens, torch.arange(self.layout.count, device=device)[chunk.contexts]

    def choose(self, q: Tensor, chunk: _Chunk, some: _Heads, scratch: Scratch) -> Tensor:
        """The same before drop-off and drop-in."""
        batch, _, heads = q.shape[:3]
        if self.table is not None:
            contexts = self.layout.token_contexts()[-self.query_length :]  # (Lq,)
            rows = contexts[chunk.start : chunk.stop] - self.first  # (Q,)
            chosen = self.table[rows][:, chunk.contexts].t().to(q.device)
            return chosen.expand(batch, heads, *chosen.shape)
        if self.routing.policy == "random":
            positions, contexts = self.positions(chunk, q.device)
            rows = random_rows(self.seed, Stream.POLICY, batch, heads, positions)
            ranks = random_ranks(rows, contexts).transpose(2, 3)  # (B, H, n, Q)
            return best(ranks, chunk.allowed, self.routing.top_k)
        scores, top_k = self.scores(q, chunk, some, scratch), self.routing.top_k
        scale, top_p = q.shape[-1] ** -0.5, self.routing.top_p
        return best(scores, chunk.allowed, top_k, scale=scale, top_p=top_p, scratch=scratch)

    def scores(self, q: Tensor, chunk: _Chunk, some: _Heads, scratch: Scratch) -> Tensor:
        """The highest product of q (B, Q, H, D) with a context's descriptors: (B, H, n, Q) fp32."""
        assert self.means is not None
        means = self.means[some.batch, some.heads, :, chunk.contexts]  # (B, H, r, n, D)
        read_in_order(q)
        queries = q.float().permute(0, 2, 3, 1)  # (B, H, D, Q)
        shape = (*queries.shape[:2], means.shape[3], queries.shape[3])
        scores = scratch.take("scores", shape, torch.float32, q.device)
        torch.matmul(means[:, :, 0], queries, out=scores)
        for piece in range(1, means.shape[2]):
            torch.maximum(scores, means[:, :, piece] @ queries, out=scores)
        return scores
