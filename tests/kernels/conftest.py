"""Layouts and tensors that several kernel tests use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind

Tensors = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="session")
def ragged() -> ContextLayout:
    """A global prompt and five shots, contexts of 1 to 9 tokens."""
    video = [[3, 7, 1], [5], [9, 1], [4, 4, 4, 4], [2, 6]]
    lengths, kinds, shots = [3], [Kind.TEXT], [-1]
    for shot, frames in enumerate(video):
        lengths += [1 + shot % 3, *frames]
        kinds += [Kind.TEXT, *[Kind.VIDEO] * len(frames)]
        shots += [shot] * (1 + len(frames))
    return ContextLayout(lengths=lengths, kinds=kinds, shots=shots)


@pytest.fixture
def qkv() -> Tensors:
    """Random q (B, Lq, H, D), k and v (B, L, H, D), differentiable leaves."""

    def make(
        layout: ContextLayout,
        *,
        batch: int = 2,
        heads: int = 3,
        dim: int = 16,
        tail: int | None = None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        lengths = (tail or layout.length, layout.length, layout.length)
        shapes = [(batch, length, heads, dim) for length in lengths]
        q, k, v = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)
        return q, k, v

    return make
