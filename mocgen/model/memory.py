"""The context memory: keys, values and descriptors of finished shots, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, pool_descriptors

from .contexts import PackedScene, layout_after


class ContextMemory:
    """What finished shots leave behind for later ones.

    Routing is causal, so a finished shot never depends on a later one and its keys and values can be
    kept: attending to the memory equals recomputing the whole scene. Keys are kept after their rotary
    turn; shot positions are absolute, so they stay right as the scene grows.

    Each layer owns one buffer that holds the past and, behind it, room for the shot being denoised, so
    that a denoising step copies only its own keys and values.
    """

    def __init__(self, layers: int) -> None:
        self.layout: ContextLayout | None = None
        self._keys: list[Tensor | None] = [None] * layers  # (1, capacity, H, D)
        self._values: list[Tensor | None] = [None] * layers
        self._descriptors: list[Tensor | None] = [None] * layers  # (1, contexts, H, D) fp32

    @property
    def tokens(self) -> int:
        """Number of tokens that are remembered."""
        return 0 if self.layout is None else sum(self.layout.lengths)

    def attach(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The past followed by the given keys and values of the current shot, (1, n, H, D) each.

        Returns views (1, past + n, H, D) of the layer's buffers; they are overwritten by the next call.
        """
        past = self.tokens
        return (
            _write(self._keys, layer, past, keys),
            _write(self._values, layer, past, values),
        )

    def descriptors(self, layer: int, keys: Tensor, layout: ContextLayout) -> Tensor:
        """Mean key of every context of `layout`, (1, C, H, D): the remembered ones and the current ones."""
        past = self._descriptors[layer]
        if past is None or self.layout is None:
            return pool_descriptors(keys, layout)
        new = _tail(layout, len(self.layout.lengths))
        return torch.cat((past, pool_descriptors(keys[:, self.tokens :], new)), dim=1)

    def commit(self, scene: PackedScene) -> None:
        """Remember what was last attached to each layer: the finished, clean shots of `scene`."""
        layout = layout_after(self.layout, scene)
        for layer, keys in enumerate(self._keys):
            if keys is None:
                raise RuntimeError("commit() follows a forward pass of the model with this memory")
            self._descriptors[layer] = self.descriptors(layer, keys[:, : sum(layout.lengths)], layout)
        self.layout = layout


def _write(buffers: list[Tensor | None], layer: int, past: int, new: Tensor) -> Tensor:
    """Put `new` behind the first `past` tokens of a layer's buffer, growing it when it is full."""
    buffer = buffers[layer]
    needed = past + new.shape[1]
    if buffer is None or buffer.shape[1] < needed:
        grown = new.new_empty(1, needed + needed // 8, *new.shape[2:])
        if buffer is not None:
            grown[:, :past] = buffer[:, :past]
        buffers[layer] = buffer = grown
    buffer[:, past:needed] = new
    return buffer[:, :needed]


def _tail(layout: ContextLayout, start: int) -> ContextLayout:
    return ContextLayout(
        lengths=layout.lengths[start:], kinds=layout.kinds[start:], shots=layout.shots[start:]
    )
