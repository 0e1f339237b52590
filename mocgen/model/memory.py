"""The context memory: keys, values and descriptors of finished shots, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, pool_descriptors

from .contexts import GLOBAL_PROMPT, PackedScene, layout_after
from .store import SpillingStore

VOTERS = 1024  # queries, evenly spaced, that the outer loop asks at most


@dataclass(frozen=True, kw_only=True)
class Recall:
    """What the queries of one layer may retrieve from: shots of the past, then the current ones."""

    layout: ContextLayout  # of the recalled contexts and the current ones, L tokens in C contexts
    scene: ContextLayout  # of everything so far
    contexts: tuple[int, ...]  # index in `scene` of each of the C contexts
    keys: Tensor  # (1, L, H, D)
    values: Tensor  # (1, L, H, D)
    descriptors: Tensor  # (1, C, H, D) fp32


@dataclass(frozen=True, kw_only=True)
class _Block:
    """The contexts of one finished shot (or of the global prompt)."""

    shot: int
    contexts: range  # in the scene


class ContextMemory:
    """What finished shots leave behind for later ones.

    Routing is causal, so a finished shot never depends on a later one and its keys and values can be
    kept: attending to the memory equals recomputing the whole scene. Keys are kept after their rotary
    turn; shot positions are absolute, so they stay right as the scene grows.

    Descriptors stay on the compute device; keys and values go to a store that spills to disk, and only
    those of recalled shots travel back.
    """

    def __init__(self, layers: int) -> None:
        self.layout: ContextLayout | None = None
        self._blocks: list[_Block] = []
        self._store = SpillingStore()
        self._only_read = False
        # what came last: keys and values (2, 1, n, H, D) on the CPU, descriptors
        self._current: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._descriptors: list[Tensor | None] = [None] * layers  # (1, contexts, H, D) fp32

    @property
    def tokens(self) -> int:
        """Number of tokens that are remembered."""
        return 0 if self.layout is None else self.layout.length

    @contextmanager
    def only_read(self) -> Iterator[None]:
        """Within this, what passes through `recall` is not held for a `commit`: it can be large."""
        self._only_read = True
        try:
            yield
        finally:
            self._only_read = False

    def recall(
        self,
        layer: int,
        k: Tensor,
        v: Tensor,
        scene: ContextLayout,
        *,
        asking: Tensor,
        asked: Tensor,
        reach: int | None,
        top_k: int,
    ) -> Recall:
        """The past and the current shots' k and v, (1, n, H, D) each, as one sequence.

        `asking` and `asked` are the queries and keys that routing goes by, of the current shots:
        q and k themselves, or what they were before their rotary turn.
        With more remembered shots than `reach`, an outer loop first picks that many, in each layer (after
        the outer loop of Cai et al., arXiv 2508.21058): every query and head votes for the shots of its
        `top_k` best contexts. None: all. The global prompt is always recalled.
        """
        blocks = self._choose(layer, asking, reach, top_k)
        first = self.layout.count if self.layout is not None else 0
        contexts = (*(c for block in blocks for c in block.contexts), *range(first, scene.count))
        new = pool_descriptors(asked, _part(scene, range(first, scene.count)))
        if not self._only_read:
            self._current[layer] = (torch.stack((k, v)).cpu(), new)
        past = self._descriptors[layer]
        if past is None:
            return Recall(layout=scene, scene=scene, contexts=contexts, keys=k, values=v, descriptors=new)
        keys, values = zip(*(self._load(layer, block, k) for block in blocks), strict=True)
        return Recall(
            layout=_part(scene, contexts),
            scene=scene,
            contexts=contexts,
            keys=torch.cat((*keys, k), dim=1),
            values=torch.cat((*values, v), dim=1),
            descriptors=torch.cat((past[:, list(contexts[: -(scene.count - first)])], new), dim=1),
        )

    def commit(self, scene: PackedScene | ContextLayout) -> None:
        """Remember what was last recalled with in each layer: the finished, clean shots of `scene`."""
        layout = layout_after(self.layout, scene)
        first = self.layout.count if self.layout is not None else 0
        for shot, run in groupby(range(first, layout.count), key=lambda c: layout.shots[c]):
            contexts = list(run)
            self._blocks.append(_Block(shot=shot, contexts=range(contexts[0], contexts[-1] + 1)))
        new_blocks = [block for block in self._blocks if block.contexts.start >= first]
        for layer, current in enumerate(self._current):
            if current is None:
                raise RuntimeError("commit() follows a forward pass of the model with this memory")
            pair, new = current
            past = self._descriptors[layer]
            self._descriptors[layer] = new if past is None else torch.cat((past, new), dim=1)
            for block in new_blocks:
                begin = layout.offsets[block.contexts.start] - layout.offsets[first]
                end = layout.offsets[block.contexts.stop] - layout.offsets[first]
                self._store.put((layer, block.shot), pair[:, :, begin:end].contiguous())
            self._current[layer] = None
        self.layout = layout

    def _choose(self, layer: int, q: Tensor, reach: int | None, top_k: int) -> list[_Block]:
        """The outer loop: the global prompt and at most `reach` shots, in order. q: (1, Lq, H, D)."""
        shots = [block for block in self._blocks if block.shot != GLOBAL_PROMPT]
        descriptors = self._descriptors[layer]
        if reach is None or len(shots) <= reach or descriptors is None:
            return self._blocks
        voters = q[0, :: max(1, q.shape[1] // VOTERS)].float()
        first = shots[0].contexts.start
        scores = torch.einsum("qhd,chd->qhc", voters, descriptors[0, first:])
        picks = scores.topk(min(top_k, scores.shape[-1])).indices.flatten()
        votes = torch.bincount(picks, minlength=scores.shape[-1])  # (C,)
        of_shots = [int(votes[s.contexts.start - first : s.contexts.stop - first].sum()) for s in shots]
        best = sorted(range(len(shots)), key=lambda i: (of_shots[i], i), reverse=True)  # ties: the later one
        chosen = {shots[i].shot for i in best[:reach]} | {GLOBAL_PROMPT}
        return [block for block in self._blocks if block.shot in chosen]

    def _load(self, layer: int, block: _Block, like: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._store.get((layer, block.shot)).to(like.device, like.dtype).unbind()
        return keys, values


def _part(layout: ContextLayout, contexts: range | tuple[int, ...]) -> ContextLayout:
    """The layout of some contexts of another one, in order."""
    return ContextLayout(
        lengths=[layout.lengths[c] for c in contexts],
        kinds=[layout.kinds[c] for c in contexts],
        shots=[layout.shots[c] for c in contexts],
    )
