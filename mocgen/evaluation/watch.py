"""Watches one shot's attention: what it costs, and whether it finds where a character was seen."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, Selection


class ReturnWatch:
    """A `Recorder` of the denoising of one shot that adds up over layers and steps.

    seen: place in the scene of the shot where the character was seen; None: nowhere. Only frames count as
    seeing it, not the caption of that shot.
    """

    def __init__(self, *, layers: int, heads: int, seen: int | None) -> None:
        self._seen = seen
        self._found: list[Tensor | None] = [None] * layers  # (H, Lq) how often each query routed there
        self._calls = [0] * layers
        self._heads = heads
        self._pairs = 0.0
        self._possible = 0
        self._flops = 0.0
        self._seconds = 0.0

    def record(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        layout: ContextLayout,
        selection: Selection,
        *,
        scene: ContextLayout | None = None,
        contexts: Sequence[int] | None = None,
    ) -> None:
        """Count one layer of one step; see `Recorder`."""
        begun = time.perf_counter()
        pairs, queries = selection.pairs(), selection.query_length
        self._pairs += pairs
        self._possible += queries * (scene or layout).length
        self._flops += self._heads * q.shape[-1] * (4 * pairs + _scoring(selection))
        owners = zip(layout.shots, layout.kinds, strict=True)
        target = torch.tensor([shot == self._seen and kind is Kind.VIDEO for shot, kind in owners])
        found = selection.routed()[0].cpu()[..., target].any(-1).float()  # (H, Lq)
        before = self._found[layer]
        self._found[layer] = found if before is None else before + found
        self._calls[layer] += 1
        self._seconds += time.perf_counter() - begun

    @property
    def density(self) -> float:
        """Attended pairs / all pairs of the shot's queries with the tokens of the scene so far."""
        return self._pairs / self._possible if self._possible else 0.0

    @property
    def flops(self) -> float:
        """Of attention, routing included, in all recorded steps; a multiplication and an addition are 2."""
        return self._flops

    @property
    def seconds(self) -> float:
        """That watching took: no part of what making the shot takes."""
        return self._seconds

    def routed_to_seen(self, tokens: Tensor) -> Tensor:
        """Share of the steps in which queries found the shot: (layers, heads), mean over some tokens.

        tokens: (n,) bool, which of the shot's video tokens count; they are its last ones.
        """
        rows = [
            found[:, -len(tokens) :][:, tokens].mean(-1) / calls
            for found, calls in zip(self._found, self._calls, strict=True)
            if found is not None
        ]
        return torch.stack(rows)


def _scoring(selection: Selection) -> float:
    """Multiplications and additions per head dimension that choosing took: 2 for each query and candidate."""
    if selection.words is None:
        return 0.0
    return 2.0 * sum((group.stop - group.start) * len(group.candidates) for group in selection.groups)


def object_tokens(where: Tensor, *, grid: int, group: int) -> Tensor:
    """Which video tokens show an object: (T / group · grid²,) bool.

    where: (T, 3) centre x, y and radius in frame widths. A token counts if its middle is covered by the
    object's circle in one of its frames.
    """
    middles = (torch.arange(grid) + 0.5) / grid
    x, y, radius = where[:, :1, None], where[:, 1:2, None], where[:, 2:, None]  # (T, 1, 1)
    covered = (middles[None, None] - x).square() + (middles[None, :, None] - y).square() < radius.square()
    return covered.unflatten(0, (-1, group)).any(1).flatten()
