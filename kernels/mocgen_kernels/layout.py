"""The packed sequence: which tokens form a context, of which kind, in which shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import accumulate
from operator import index

import torch
from torch import Tensor

GLOBAL_SHOT = -1


class Kind(Enum):
    """What a context is made of."""

    TEXT = "text"
    VIDEO = "video"


@dataclass(frozen=True, kw_only=True)
class ContextLayout:
    """How a packed sequence of L tokens is cut into C contexts.

    Contexts follow each other in the sequence; `lengths`, `kinds` and `shots` have one entry per context.
    Shot -1 holds the global prompt, which precedes everything and is text. The other shots count upwards;
    they may start anywhere and may have gaps. Lives on the CPU, hashable, cheap to build.

    Raises:
        TypeError: lengths or shots that are no whole numbers.
        ValueError: no context, lists of unequal length, a length < 1, a shot < -1, shots that decrease (a
            shot's contexts must be contiguous), or a video context in the global prompt.
    """

    lengths: Sequence[int]
    kinds: Sequence[Kind]
    shots: Sequence[int]
    offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """First token of every context, then L: C + 1 numbers."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(index(n) for n in self.lengths))
        object.__setattr__(self, "kinds", tuple(Kind(kind) for kind in self.kinds))
        object.__setattr__(self, "shots", tuple(index(s) for s in self.shots))
        if not len(self.lengths) == len(self.kinds) == len(self.shots):
            raise ValueError(
                f"lengths, kinds and shots need one entry per context; "
                f"got {len(self.lengths)}, {len(self.kinds)} and {len(self.shots)}"
            )
        if not self.lengths:
            raise ValueError("a layout needs at least one context")
        if min(self.lengths) < 1:
            raise ValueError(f"every context needs at least one token; got lengths {self.lengths}")
        if self.shots[0] < GLOBAL_SHOT:
            raise ValueError(f"shots count from 0, or -1 for the global prompt; got {self.shots[0]}")
        if any(a > b for a, b in zip(self.shots, self.shots[1:], strict=False)):
            raise ValueError(f"shots must not decrease along the sequence; got {self.shots}")
        if any(kind is Kind.VIDEO for kind, shot in zip(self.kinds, self.shots, strict=True) if shot < 0):
            raise ValueError("the global prompt (shot -1) holds text only")
        # at once, for a graph that is being compiled could not work them out
        object.__setattr__(self, "offsets", tuple(accumulate(self.lengths, initial=0)))
        object.__setattr__(self, "_hash", hash((self.lengths, self.kinds, self.shots)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def count(self) -> int:
        """Number of contexts, C."""
        return len(self.lengths)

    @property
    def length(self) -> int:
        """Number of tokens, L."""
        return self.offsets[-1]

    def first_query_context(self, query_length: int) -> int:
        """Context at which the last `query_length` tokens begin.

        Raises:
            ValueError: the tail does not begin at a context boundary, or is longer than the layout.
        """
        start = self.length - query_length
        if query_length < 1 or start < 0:
            raise ValueError(f"{query_length} query tokens do not fit a layout of {self.length} tokens")
        if start not in self.offsets:
            raise ValueError(
                f"queries must begin at a context boundary; token {start} lies inside a context "
                f"(boundaries: {self.offsets})"
            )
        return self.offsets.index(start)

    def query_span(self, first: int, begin: int, end: int) -> slice:
        """Query tokens of query contexts begin…end − 1, both counted from context `first` on."""
        base = self.offsets[first]
        return slice(self.offsets[first + begin] - base, self.offsets[first + end] - base)

    def token_contexts(self, device: torch.device | str = "cpu") -> Tensor:
        """Index of every token's context: (L,) int64. Cached; do not write to it."""
        return _token_contexts(self, torch.device(device))


def piece_of(length: int, piece: int, pieces: int) -> slice:
    """Tokens of one of `pieces` equal parts of a context: from ⌊piece · length / pieces⌋ on, one at least."""
    begin = piece * length // pieces
    return slice(begin, max(begin + 1, (piece + 1) * length // pieces))


@lru_cache(maxsize=16)
def _token_contexts(layout: ContextLayout, device: torch.device) -> Tensor:
    lengths = torch.tensor(layout.lengths, device="cpu")
    return torch.repeat_interleave(torch.arange(layout.count, device="cpu"), lengths).to(device)  # (L,)
