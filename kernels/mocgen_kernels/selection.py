"""What was routed: a compact record that every backend can execute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import QueryGroup, TextAnchors, anchor_table, candidate_table, query_groups

WORD_BITS = 32
_CHUNK_ELEMENTS = 1 << 22


def words_for(count: int) -> int:
    """Number of 32-bit words, W, that hold one bit per context."""
    return -(-count // WORD_BITS)


def pack_bits(bits: Tensor) -> Tensor:
    """(..., C) bool → (..., W) int32; bit c % 32 of word c // 32 is context c."""
    count = bits.shape[-1]
    padded = torch.nn.functional.pad(bits, (0, words_for(count) * WORD_BITS - count))
    weights = 1 << torch.arange(WORD_BITS, dtype=torch.int32, device=bits.device)
    return (padded.unflatten(-1, (-1, WORD_BITS)) * weights).sum(dim=-1, dtype=torch.int32)


def unpack_bits(words: Tensor, count: int) -> Tensor:
    """(..., W) int32 → (..., C) bool."""
    shifts = torch.arange(WORD_BITS, dtype=torch.int32, device=words.device)
    return (words[..., None] >> shifts).bitwise_and_(1).flatten(-2)[..., :count].bool()


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Anchors (by rule) and routed contexts (by choice) of Lq queries.

    Exactly one of `table` and `words` is set: `table` where the choice is the same for every token of a
    query context, every head and batch item; `words`, one bit per context, where it is not.
    Cq is the number of query contexts, C of all contexts, W = ceil(C / 32).
    """

    layout: ContextLayout
    causal: bool
    text_anchors: TextAnchors
    batch: int
    heads: int
    query_length: int
    budget: float  # routed contexts per query that were asked for; candidates may be fewer
    table: Tensor | None = None  # (Cq, C) bool, on the CPU
    words: Tensor | None = None  # (B, H, Lq, W) int32, on the device of the queries

    def __post_init__(self) -> None:
        if (self.table is None) == (self.words is None):
            raise ValueError("a selection holds either a table or words")

    @property
    def first_query_context(self) -> int:
        """Context of the first query."""
        return self.layout.first_query_context(self.query_length)

    @property
    def anchor_table(self) -> Tensor:
        """Anchors of every query context: (Cq, C) bool, on the CPU."""
        return anchor_table(self.layout, self.first_query_context, self.text_anchors)

    @property
    def candidate_table(self) -> Tensor:
        """Contexts that every query context may be routed to: (Cq, C) bool, on the CPU."""
        return candidate_table(self.layout, self.first_query_context, self.text_anchors, self.causal)

    @property
    def groups(self) -> tuple[QueryGroup, ...]:
        """Runs of queries that share anchors and candidates."""
        return query_groups(self.layout, self.first_query_context, self.text_anchors, self.causal)

    def anchors(self) -> Tensor:
        """Anchors of every query: (Lq, C) bool."""
        return self._per_query(self.anchor_table)

    def routed(self) -> Tensor:
        """Routed contexts of every query: (B, H, Lq, C) bool."""
        if self.words is not None:
            return unpack_bits(self.words, self.layout.count)
        assert self.table is not None
        return self._per_query(self.table).expand(self.batch, self.heads, -1, -1)

    def dense_mask(self) -> Tensor:
        """Key tokens that every query attends to: (B, H, Lq, L) bool. For short sequences."""
        attended = self.routed() | self.anchors()  # (B, H, Lq, C)
        return attended[..., self.layout.token_contexts(attended.device)]

    def counts(self) -> Tensor:
        """Routed queries per query context and key context: (B, H, Cq, C) int64, on the CPU."""
        first, lengths = self.first_query_context, torch.tensor(self.layout.lengths)
        if self.table is not None:
            counts = self.table * lengths[first:, None]  # (Cq, C)
            return counts.expand(self.batch, self.heads, -1, -1).clone()
        queries = self.layout.count - first
        total = torch.zeros(self.batch, self.heads, queries, self.layout.count, dtype=torch.int64)
        contexts = self.layout.token_contexts()[-self.query_length :] - first  # (Lq,)
        for start, routed in self._routed_chunks():
            rows = contexts[start : start + routed.shape[2]]
            total.index_add_(2, rows, routed.cpu().long())
        return total

    def pairs(self) -> float:
        """Attended (query, key) pairs, mean over batch items and heads."""
        lengths = torch.tensor(self.layout.lengths, dtype=torch.float64)  # (C,)
        query_lengths = lengths[self.first_query_context :]  # (Cq,)
        anchors = float(query_lengths @ self.anchor_table.double() @ lengths)
        return anchors + float((self.counts().double() @ lengths).sum()) / (self.batch * self.heads)

    def density(self, baseline: Literal["full", "causal"] = "full") -> float:
        """Attended pairs as a share of all pairs, or of the pairs that anchors and causality allow."""
        if baseline == "full":
            return self.pairs() / (self.query_length * self.layout.length)
        lengths = torch.tensor(self.layout.lengths, dtype=torch.float64)
        allowed = (self.anchor_table | self.candidate_table).double()  # (Cq, C)
        return self.pairs() / float(lengths[self.first_query_context :] @ allowed @ lengths)

    def _per_query(self, table: Tensor) -> Tensor:
        device = "cpu" if self.words is None else self.words.device
        contexts = self.layout.token_contexts(device)[-self.query_length :] - self.first_query_context
        return table.to(device)[contexts]  # (Lq, C)

    def _routed_chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Routed contexts of some queries at a time: (first query, (B, H, chunk, C) bool)."""
        assert self.words is not None
        step = max(1, _CHUNK_ELEMENTS // (self.batch * self.heads * self.layout.count))
        for start in range(0, self.query_length, step):
            yield start, unpack_bits(self.words[:, :, start : start + step], self.layout.count)
