"""Records what attention routed while a scene is made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, Selection

from .mass import context_mass
from .report import ContextLabel, RoutingReport


class RoutingRecorder:
    """Collects, over all steps of all shots, which contexts were routed to and how much attention they got.

    Each attention layer calls `record` once per denoising step. The scene may grow between calls: the
    layout of a later shot continues that of an earlier one. Memory is (layers · heads · contexts²).
    """

    def __init__(self, *, layers: int, heads: int) -> None:
        self._layers, self._heads = layers, heads
        self._layout: ContextLayout | None = None
        self._counts = torch.zeros(layers, heads, 0, 0, dtype=torch.int64)
        self._mass = torch.zeros(layers, heads, 0, 0, dtype=torch.float64)  # summed over token-steps
        self._token_steps = torch.zeros(layers, 0, dtype=torch.int64)
        self._anchors = torch.zeros(0, 0, dtype=torch.bool)
        self._candidates = torch.zeros(0, 0, dtype=torch.bool)
        self._pairs = torch.zeros(layers, 0, dtype=torch.int64)

    @torch.no_grad()
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
        """Add one step of one layer. Of a batch (guidance branches), item 0 is recorded.

        Args:
            layer: index of the layer.
            q: (B, Lq, H, D), the queries; they belong to the last contexts of the layout.
            k: (B, L, H, D), the keys of the whole layout.
            layout: contexts of all L tokens.
            selection: what `route` chose for these queries.
            scene: contexts of the whole scene so far, where `layout` holds only some of them.
            contexts: index in the scene of each context of the layout.

        Raises:
            ValueError: the layout does not continue the one recorded before, or the layer or the number of
                heads is not what the recorder was made for.
        """
        if not 0 <= layer < self._layers or q.shape[2] != self._heads:
            raise ValueError(
                f"layer {layer} with {q.shape[2]} heads does not fit a recorder for "
                f"{self._layers} layers of {self._heads} heads"
            )
        scene = scene or layout
        self._grow(scene)
        columns = torch.tensor(contexts if contexts is not None else range(layout.count))  # (C,)
        rows = slice(scene.count - layout.count + selection.first_query_context, scene.count)
        lengths = torch.tensor(scene.lengths[rows])
        self._anchors[rows, columns] |= selection.anchor_table
        self._candidates[rows, columns] |= selection.candidate_table
        self._token_steps[layer, rows] += lengths
        self._pairs[layer, rows] += lengths * scene.length
        counts, mass = self._counts[layer, :, rows], self._mass[layer, :, rows]  # (H, Cq, contexts), views
        counts[..., columns] += selection.counts()[0]
        mass[..., columns] += _tail_mass(q[0], k[0], layout, selection)

    @property
    def layout(self) -> ContextLayout:
        """The contexts of the scene as far as it was recorded; raises ValueError if nothing was."""
        if self._layout is None:
            raise ValueError("nothing was recorded: no attention layer has called record()")
        return self._layout

    def report(self, *, frames: Sequence[tuple[int, int] | None] | None = None) -> RoutingReport:
        """What was recorded so far.

        Args:
            frames: for each context the video frames [first, end) that it holds, None for captions.

        Raises:
            ValueError: nothing was recorded, or `frames` has not one entry per context.
        """
        layout = self.layout
        if frames is None:
            frames = [None] * layout.count
        return RoutingReport(
            contexts=tuple(
                ContextLabel(
                    kind="text" if kind is Kind.TEXT else "video",
                    shot=shot if shot >= 0 else None,
                    length=length,
                    frames=held,
                )
                for kind, shot, length, held in zip(
                    layout.kinds, layout.shots, layout.lengths, frames, strict=True
                )
            ),
            counts=self._counts.clone(),
            mass=(self._mass / self._token_steps.clamp_min(1)[:, None, :, None]).float(),
            anchors=self._anchors.clone(),
            candidates=self._candidates.clone(),
            token_steps=self._token_steps.clone(),
            pairs=self._pairs.clone(),
        )

    def _grow(self, layout: ContextLayout) -> None:
        """Make room for the contexts of a layout; a longer layout must begin with the known one."""
        known = self._layout
        if known is not None:
            shared = min(known.count, layout.count)
            if _contexts(known)[:shared] != _contexts(layout)[:shared]:
                raise ValueError("the layout does not continue the recorded scene; each needs its recorder")
            if layout.count <= known.count:
                return
        more = layout.count - (known.count if known is not None else 0)
        self._layout = layout
        square, row = (0, more, 0, more), (0, more)
        self._counts = torch.nn.functional.pad(self._counts, square)
        self._mass = torch.nn.functional.pad(self._mass, square)
        self._anchors = torch.nn.functional.pad(self._anchors, square)
        self._candidates = torch.nn.functional.pad(self._candidates, square)
        self._token_steps = torch.nn.functional.pad(self._token_steps, row)
        self._pairs = torch.nn.functional.pad(self._pairs, row)


def _contexts(layout: ContextLayout) -> list[tuple[int, Kind, int]]:
    return list(zip(layout.lengths, layout.kinds, layout.shots, strict=True))


def _tail_mass(q: Tensor, k: Tensor, layout: ContextLayout, selection: Selection) -> Tensor:
    """Attention mass, summed over the tokens of each query context: (H, Cq, C) float64 on the CPU.

    q: (Lq, H, D), k: (L, H, D).
    """
    lengths = torch.tensor(layout.lengths, device=q.device)
    attended = selection.routed()[0].to(q.device) | selection.anchors().to(q.device)  # (H, Lq, C)
    first = selection.first_query_context
    start, parts = 0, []
    for length in layout.lengths[first:]:
        tokens = slice(start, start + length)
        parts.append(context_mass(q[tokens], k, attended[:, tokens], lengths))
        start += length
    return torch.stack(parts, dim=1).cpu()
