"""Who may attend to whom: anchors and routing candidates, per query context.

A query of shot s has as anchors the global prompt and every context of its own shot, caption and video
alike, in both directions. A query of the global prompt has only its own context. With `text_anchors="all"`
every text context that precedes the query's context is an anchor too. What is not an anchor is a candidate
for routing; under causal routing only if it precedes the query's context, which makes the graph of shots a
DAG.

With `first_frame` the first video context of the own shot is an anchor in any case.

With `local_window=w` the own shot is routed to like the past: anchors are then the global prompt, the own
shot's captions, the query's own context and w contexts of the own shot on either side. The rest of the own
shot, which is denoised as a whole, is a candidate in both directions, under causal routing too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from mocgen_kernels.layout import GLOBAL_SHOT, ContextLayout, Kind

Policy = Literal["moc", "dense", "window", "first-frame", "random"]
TextAnchors = Literal["own", "all"]

_MOST_DROP_IN = 500.0
_POLICIES, _TEXT_ANCHORS = get_args(Policy), get_args(TextAnchors)


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How contexts are chosen; see `route` for the meaning of every field.

    Raises:
        ValueError: a value out of range, or an unknown name.
    """

    top_k: int = 5
    causal: bool = True
    policy: Policy = "moc"
    text_anchors: TextAnchors = "own"
    local_window: int | None = None
    first_frame: bool = False
    top_p: float = 1.0
    sub_descriptors: int = 1
    drop_off: float = 0.0
    drop_in: float = 0.0

    @property
    def perturbs(self) -> bool:
        """Whether drop-off or drop-in is on."""
        return self.drop_off > 0 or self.drop_in > 0

    @property
    def draws(self) -> bool:
        """Whether random numbers are needed."""
        return self.perturbs or self.policy == "random"

    def budget(self, count: int) -> float:
        """Routed contexts that a query with enough candidates gets, of `count` in all, on average."""
        if self.policy in ("dense", "first-frame"):
            return float(count)
        return min(self.top_k + self.drop_in, float(count))

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, a whole number; got {self.top_k}")
        if self.policy not in _POLICIES:
            raise ValueError(f"policy must be one of {', '.join(_POLICIES)}; got {self.policy!r}")
        if self.text_anchors not in _TEXT_ANCHORS:
            raise ValueError(f"text_anchors must be 'own' or 'all'; got {self.text_anchors!r}")
        if self.local_window is not None and self.local_window < 0:
            raise ValueError(f"local_window must be at least 0 contexts, or None; got {self.local_window}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is a share above 0 and up to 1; got {self.top_p}")
        if not isinstance(self.sub_descriptors, int) or self.sub_descriptors < 1:
            raise ValueError(
                f"sub_descriptors must be at least 1, a whole number; got {self.sub_descriptors}"
            )
        if not 0.0 <= self.drop_off <= 1.0:
            raise ValueError(f"drop_off is a share between 0 and 1; got {self.drop_off}")
        if not 0.0 <= self.drop_in <= _MOST_DROP_IN:
            raise ValueError(
                f"drop_in is a mean number of contexts from 0 to {_MOST_DROP_IN}; got {self.drop_in}"
            )


@lru_cache(maxsize=16)
def anchor_table(layout: ContextLayout, first: int, routing: Routing) -> Tensor:
    """Anchors of every query context from `first` on: (C - first, C) bool on the CPU. Do not write to it."""
    shots = torch.tensor(layout.shots, device="cpu")  # (C,)
    text = torch.tensor([kind is Kind.TEXT for kind in layout.kinds], device="cpu")  # (C,)
    index = torch.arange(layout.count, device="cpu")
    own, own_shot = index[first:, None], shots[first:, None]  # (Cq, 1)
    near = shots == own_shot  # (Cq, C)
    if routing.local_window is not None:
        close = text | ((index - own).abs() <= routing.local_window)
        near &= close | _opens_shot(layout) if routing.first_frame else close
    near |= shots == GLOBAL_SHOT
    anchors = torch.where(own_shot == GLOBAL_SHOT, index == own, near)
    if routing.text_anchors == "all":
        anchors |= text & (index < own)
    return anchors


@lru_cache(maxsize=16)
def candidate_table(layout: ContextLayout, first: int, routing: Routing) -> Tensor:
    """Contexts that may be routed to: (C - first, C) bool on the CPU. Do not write to it."""
    candidates = ~anchor_table(layout, first, routing)
    if routing.causal:
        index, shots = torch.arange(layout.count, device="cpu"), torch.tensor(layout.shots, device="cpu")
        own_shot = (shots == shots[first:, None]) & (shots != GLOBAL_SHOT)
        candidates &= (index < index[first:, None]) | own_shot
    return candidates


@dataclass(frozen=True, kw_only=True)
class QueryGroup:
    """Consecutive query contexts with the same anchors and the same candidates, as a rule a shot."""

    start: int  # first query token, counted from the first query
    stop: int  # one past the last query token
    first: int  # first query context, counted from the first query context
    anchors: tuple[int, ...]  # contexts
    candidates: tuple[int, ...]  # contexts


@lru_cache(maxsize=16)
def query_groups(layout: ContextLayout, first: int, routing: Routing) -> tuple[QueryGroup, ...]:
    """Cut the queries from context `first` on into groups with equal rules."""
    anchors = anchor_table(layout, first, routing)
    candidates = candidate_table(layout, first, routing)
    groups = []
    for begin, end in runs_of_equal_rows(torch.cat([anchors, candidates], dim=1)):
        tokens = layout.query_span(first, begin, end)
        groups.append(
            QueryGroup(
                start=tokens.start,
                stop=tokens.stop,
                first=begin,
                anchors=tuple(anchors[begin].nonzero().flatten().tolist()),
                candidates=tuple(candidates[begin].nonzero().flatten().tolist()),
            )
        )
    return tuple(groups)


@dataclass(frozen=True, kw_only=True)
class QueryRun:
    """Neighbouring groups of queries, and all contexts from the first to the last that they may attend to."""

    queries: slice  # tokens, counted from the first query
    contexts: slice
    keys: slice  # their tokens

    @property
    def pairs(self) -> int:
        """(query, key) pairs."""
        return (self.queries.stop - self.queries.start) * (self.keys.stop - self.keys.start)


@lru_cache(maxsize=16)
def query_runs(
    layout: ContextLayout,
    first: int,
    routing: Routing,
    *,
    block: tuple[int, int],
    pairs_per_block: int,
    static: bool = False,
) -> tuple[QueryRun, ...]:
    """Cut the queries from context `first` on into runs at the least cost, that of their pairs and blocks.

    By dynamic programming: the best cut of the first n groups, for every n.

    block: queries and keys that are worked on at a time. pairs_per_block: that cost as much as another one.
    static: candidates that are not in `static_table` don't count.
    """
    candidates = static_table(layout, first, routing) if static else candidate_table(layout, first, routing)
    assert candidates is not None
    seen = anchor_table(layout, first, routing) | candidates
    groups = list[QueryRun]()  # neighbours with equal spans are one: that costs nothing
    for begin, end in runs_of_equal_rows(seen):
        contexts = seen[begin].nonzero().flatten()
        run = _run(layout, layout.query_span(first, begin, end), int(contexts[0]), int(contexts[-1]) + 1)
        alike = groups and groups[-1].contexts == run.contexts
        groups[-1:] = [_joint(layout, groups[-1], run)] if alike else [*groups[-1:], run]

    def cost(run: QueryRun) -> int:
        queries, keys = (x.stop - x.start for x in (run.queries, run.keys))
        return queries * keys + pairs_per_block * -(-queries // block[0]) * -(-keys // block[1])

    best: list[tuple[int, tuple[QueryRun, ...]]] = [(0, ())]
    for stop in range(1, len(groups) + 1):
        last, apart = groups[stop - 1], 0
        cuts = list[tuple[int, int, QueryRun]]()
        for start in range(stop - 1, -1, -1):
            last, apart = _joint(layout, groups[start], last), apart + cost(groups[start])
            if cuts and (cost(last) > apart or last.queries.stop - last.queries.start > block[0]):
                break  # longer ones are no better as a rule
            cuts.append((best[start][0] + cost(last), start, last))
        least, start, last = min(cuts, key=lambda cut: cut[0])
        best.append((least, (*best[start][1], last)))
    return best[-1][1]


def _joint(layout: ContextLayout, run: QueryRun, following: QueryRun) -> QueryRun:
    begin = min(run.contexts.start, following.contexts.start)
    end = max(run.contexts.stop, following.contexts.stop)
    return _run(layout, slice(run.queries.start, following.queries.stop), begin, end)


def _run(layout: ContextLayout, queries: slice, begin: int, end: int) -> QueryRun:
    keys = slice(layout.offsets[begin], layout.offsets[end])
    return QueryRun(queries=queries, contexts=slice(begin, end), keys=keys)


def runs_of_equal_rows(rows: Tensor) -> list[tuple[int, int]]:
    """Begin and end of every run of neighbouring rows that are equal. `rows`: (n, m)."""
    begins = [0, *((rows[1:] != rows[:-1]).any(dim=1).nonzero().flatten() + 1).tolist()]
    return list(zip(begins, [*begins[1:], len(rows)], strict=True))


@lru_cache(maxsize=16)
def static_table(layout: ContextLayout, first: int, routing: Routing) -> Tensor | None:
    """Routed contexts where they do not depend on the tokens: (C - first, C) bool on the CPU, else None.

    True of the policies dense, window and first-frame, and of the others when top_k is 0, when no query has
    more than top_k candidates and top_p is off, or when none has any. Drop-off and drop-in are not applied
    here.
    """
    candidates = candidate_table(layout, first, routing)
    if routing.policy == "window":
        return _window(layout, candidates, first, routing.top_k)
    if routing.policy == "first-frame":
        return _first_frame(layout, candidates, first)
    if routing.policy in ("moc", "random") and routing.top_k == 0:
        return torch.zeros_like(candidates)
    most = int(candidates.sum(dim=1).max())
    enough = routing.top_k if routing.policy == "random" or routing.top_p == 1 else 0
    if routing.policy == "dense" or most <= enough:
        return candidates
    return None


def _window(layout: ContextLayout, candidates: Tensor, first: int, top_k: int) -> Tensor:
    """The top_k most recent video contexts before the own shot."""
    earlier = candidates & _earlier_video(layout, first)  # (Cq, C)
    later_ones = earlier.flip(1).cumsum(dim=1).flip(1)
    return earlier & (later_ones <= top_k)


def _first_frame(layout: ContextLayout, candidates: Tensor, first: int) -> Tensor:
    """The first video context of every earlier shot, without a budget."""
    return candidates & _earlier_video(layout, first) & _opens_shot(layout)


def _opens_shot(layout: ContextLayout) -> Tensor:
    """Whether a context is the first video context of its shot: (C,) bool."""
    opens = torch.zeros(layout.count, dtype=torch.bool, device="cpu")
    seen: set[int] = set()
    for context, (shot, kind) in enumerate(zip(layout.shots, layout.kinds, strict=True)):
        if kind is Kind.VIDEO and shot not in seen:
            opens[context] = True
            seen.add(shot)
    return opens


def _earlier_video(layout: ContextLayout, first: int) -> Tensor:
    shots = torch.tensor(layout.shots, device="cpu")
    video = torch.tensor([kind is Kind.VIDEO for kind in layout.kinds], device="cpu")
    return video & (shots < shots[first:, None])  # (Cq, C)
