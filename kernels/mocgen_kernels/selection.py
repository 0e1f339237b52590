"""What was routed: a compact record that every backend can execute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.rules import (
    QueryGroup,
    Routing,
    anchor_table,
    candidate_table,
    query_groups,
    static_table,
)

WORD_BITS = 32
_CHUNK_ELEMENTS = 1 << 22


def words_for(count: int) -> int:
    """Number of 32-bit words, W, that hold one bit per context."""
    return -(-count // WORD_BITS)


def pack_bits(bits: Tensor) -> Tensor:
    """(..., C) bool → (..., W) int32; bit c % 32 of word c // 32 is context c.

    Eight bools at a time: their bytes b₀ … b₇ are one integer, and the factor moves every bᵢ to bit 56 + i.
    """
    count = bits.shape[-1]
    padded = torch.nn.functional.pad(bits, (0, words_for(count) * WORD_BITS - count)).contiguous()
    top_bytes = padded.view(torch.int64).mul(0x0102040810204080).bitwise_right_shift_(56)
    return top_bytes.to(torch.uint8).view(torch.int32)


@lru_cache(maxsize=4)
def _powers(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Powers of two: (1, 16)."""
    return 2.0 ** torch.arange(16, dtype=dtype, device=device)[None]


def pack_columns(chosen: Tensor) -> Tensor:
    """(..., n, Q), bools or 0 and 1 → (..., Q, ceil(n / 16)) int16; bit c % 16 of c // 16 is row c.

    Sixteen rows at a time: their product with powers of two, in floats, is one exact integer.
    """
    chosen = chosen if chosen.is_floating_point() else chosen.float()
    powers = _powers(chosen.dtype, chosen.device)
    whole, rest = divmod(chosen.shape[-2], 16)
    sums = [(powers @ chosen[..., : 16 * whole, :].unflatten(-2, (whole, 16)))[..., 0, :]] if whole else []
    if rest:
        sums.append(powers[:, :rest] @ chosen[..., 16 * whole :, :])
    packed = sums[0] if len(sums) == 1 else torch.cat(sums, dim=-2)
    return packed.to(torch.int32).to(torch.int16).transpose(-1, -2)


def unpack_bits(words: Tensor, count: int) -> Tensor:
    """(..., W) int32 → (..., C) bool."""
    shifts = torch.arange(min(WORD_BITS, count), dtype=torch.int32, device=words.device)
    return (words[..., None] >> shifts).bitwise_and_(1).flatten(-2)[..., :count].bool()


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Anchors (by rule) and routed contexts (by choice) of Lq queries.

    Cq is the number of query contexts, C of all contexts, W = ceil(C / 32).
    """

    layout: ContextLayout
    routing: Routing
    batch: int
    heads: int
    query_length: int
    words: Tensor | None  # (B, H, Lq, W) int32, one bit per context, with the queries; None: see `table`

    @property
    def table(self) -> Tensor | None:
        """The choice where tokens, heads and batch items have no say: (Cq, C) bool, on the CPU; else None."""
        if self.words is not None:
            return None
        return static_table(self.layout, self.first_query_context, self.routing)

    @property
    def budget(self) -> float:
        """Routed contexts per query that were asked for; candidates may be fewer."""
        return self.routing.budget(self.layout.count)

    @property
    def first_query_context(self) -> int:
        """Context of the first query."""
        return self.layout.first_query_context(self.query_length)

    @property
    def anchor_table(self) -> Tensor:
        """Anchors of every query context: (Cq, C) bool, on the CPU."""
        return anchor_table(self.layout, self.first_query_context, self.routing)

    @property
    def candidate_table(self) -> Tensor:
        """Contexts that every query context may be routed to: (Cq, C) bool, on the CPU."""
        return candidate_table(self.layout, self.first_query_context, self.routing)

    @property
    def groups(self) -> tuple[QueryGroup, ...]:
        """Runs of queries that share anchors and candidates."""
        return query_groups(self.layout, self.first_query_context, self.routing)

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What a backend keeps from the forward to the backward pass."""
        return {}

    @property
    def anchor_words(self) -> Tensor:
        """Anchors of every query as bits: (Lq, W) int32, on the CPU. Do not write to it."""
        return _anchor_words(self.layout, self.first_query_context, self.routing)

    def anchors(self) -> Tensor:
        """Anchors of every query: (Lq, C) bool."""
        return self._per_query(self.anchor_table)

    def routed(self) -> Tensor:
        """Routed contexts of every query: (B, H, Lq, C) bool."""
        if self.words is not None:
            return unpack_bits(self.words, self.layout.count)
        assert self.table is not None
        return self._per_query(self.table).expand(self.batch, self.heads, -1, -1)

    def explicit_words(self, device: torch.device) -> Tensor:
        """The words, made from the table where there are none: (B, H, Lq, W) int32."""
        if self.words is not None:
            return self.words
        assert self.table is not None
        words = _words(self.layout, self.first_query_context, self.table)  # (Lq, W)
        return words.to(device).repeat(self.batch, self.heads, 1, 1)

    def attended(self, pairs: slice, queries: slice, dtype: torch.dtype) -> Tensor:
        """1 for anchors and routed contexts, else 0, of some of B · H heads and of the queries: (g, m, C).

        On the CPU. Where heads have no say, (1, m, C).
        """
        if self.words is None:
            words = _static_words(self.layout, self.first_query_context, self.routing)[None, queries]
        else:
            words = self.words.flatten(0, 1)[pairs, queries] | self.anchor_words[queries]
        bits = (words[..., None] & _bits(min(WORD_BITS, self.layout.count))).flatten(-2)
        marks = torch.empty((*words.shape[:2], self.layout.count), dtype=dtype, device="cpu")
        return torch.ne(bits[..., : self.layout.count], 0, out=marks)

    def skipped(self) -> Tensor:
        """Candidates that a query is not routed to: (B, H, Lq, C) bool."""
        routed = self.routed()
        return self._per_query(self.candidate_table).to(routed.device) & ~routed

    def dense_mask(self) -> Tensor:
        """Key tokens that every query attends to: (B, H, Lq, L) bool. For short sequences."""
        attended = self.routed() | self.anchors()  # (B, H, Lq, C)
        return attended[..., self.layout.token_contexts(attended.device)]

    def counts(self) -> Tensor:
        """Routed queries per query context and key context: (B, H, Cq, C) int64, on the CPU."""
        first, lengths = self.first_query_context, torch.tensor(self.layout.lengths, device="cpu")
        if self.table is not None:
            counts = self.table * lengths[first:, None]  # (Cq, C)
            return counts.expand(self.batch, self.heads, -1, -1).clone()
        queries = self.layout.count - first
        total = torch.zeros(
            self.batch, self.heads, queries, self.layout.count, dtype=torch.int64, device="cpu"
        )
        contexts = self.layout.token_contexts()[-self.query_length :] - first  # (Lq,)
        for start, routed in self._routed_chunks():
            rows = contexts[start : start + routed.shape[2]]
            total.index_add_(2, rows, routed.cpu().long())
        return total

    def pairs(self) -> float:
        """Attended (query, key) pairs, mean over batch items and heads."""
        lengths = torch.tensor(self.layout.lengths, dtype=torch.float64, device="cpu")  # (C,)
        query_lengths = lengths[self.first_query_context :]  # (Cq,)
        anchors = float(query_lengths @ self.anchor_table.double() @ lengths)
        return anchors + float((self.counts().double() @ lengths).sum()) / (self.batch * self.heads)

    def density(self, baseline: Literal["full", "causal"] = "full") -> float:
        """Attended pairs as a share of all pairs, or of the pairs that anchors and causality allow."""
        if baseline == "full":
            return self.pairs() / (self.query_length * self.layout.length)
        lengths = torch.tensor(self.layout.lengths, dtype=torch.float64, device="cpu")
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


@lru_cache(maxsize=32)
def _bits(number: int) -> Tensor:
    """2⁰, 2¹ …: (number,) int32. Do not write to it."""
    return torch.ones((), dtype=torch.int32, device="cpu") << torch.arange(
        number, dtype=torch.int32, device="cpu"
    )


@lru_cache(maxsize=16)
def _anchor_words(layout: ContextLayout, first: int, routing: Routing) -> Tensor:
    return _words(layout, first, anchor_table(layout, first, routing))


@lru_cache(maxsize=16)
def _static_words(layout: ContextLayout, first: int, routing: Routing) -> Tensor:
    """Anchors and the static choice of every query: (Lq, W) int32. Do not write to it."""
    table = static_table(layout, first, routing)
    assert table is not None
    return _words(layout, first, table | anchor_table(layout, first, routing))


def _words(layout: ContextLayout, first: int, table: Tensor) -> Tensor:
    """Rows of a table of query contexts, (Cq, C), as bits of every query: (Lq, W) int32."""
    return pack_bits(table)[layout.token_contexts()[layout.offsets[first] :] - first]
