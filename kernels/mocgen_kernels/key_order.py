"""Where the keys of some heads lie: next to each other those that are worked on together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from torch import Tensor

from mocgen_kernels.layout import ContextLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyOrder:
    """The tokens of p heads as p · L rows: first those of a context of every head, then of the next context.

    With several heads, shorter contexts come first, so that those of equal length follow each other.
    """

    layout: ContextLayout
    heads: int  # p
    runs: tuple[range, ...]  # contexts in this order, neighbours of equal length if there are several heads
    lengths: tuple[int, ...]  # of every context of every head: p · C

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, layout: ContextLayout, heads: int) -> KeyOrder:
        """For so many heads."""
        lengths, runs = layout.lengths, [range(layout.count)]
        if heads > 1:
            alike = [list(run) for _, run in groupby(range(layout.count), lengths.__getitem__)]
            alike.sort(key=lambda run: lengths[run[0]])
            runs = [range(run[0], run[-1] + 1) for run in alike]
        repeated = tuple(lengths[context] for run in runs for context in run for _ in range(heads))
        return cls(layout=layout, heads=heads, runs=tuple(runs), lengths=repeated)

    def rows(self, x: Tensor) -> Tensor:
        """(b, L, h, D) with b · h = p → (p · L, D); of one head a view."""
        if self.heads == 1:
            return x[0, :, 0]
        rows = x.new_empty(self.heads * x.shape[1], x.shape[3])
        for ours, theirs in self._runs(rows, x):
            ours.copy_(theirs)
        return rows

    def write(self, rows: Tensor, x: Tensor) -> None:
        """The reverse: (p · L, D) into x (b, L, h, D)."""
        if self.heads == 1:
            x[0, :, 0] = rows
            return
        for ours, theirs in self._runs(rows, x):
            theirs.copy_(ours)

    def _runs(self, rows: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of both: (c, b, h, n, D)."""
        begin, offsets = 0, self.layout.offsets
        for run in self.runs:
            tokens = x[:, offsets[run.start] : offsets[run.stop]].unflatten(1, (len(run), -1))
            tokens = tokens.permute(1, 0, 3, 2, 4)
            end = begin + tokens.shape[:4].numel()
            yield rows[begin:end].view(tokens.shape), tokens
            begin = end
