"""What tests of attention share: attention written out, its gradients, errors, layouts of all kinds."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention written out: q (B, Lq, H, D), mask (B, H, Lq, L)."""
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def with_gradients(out: Tensor, *leaves: Tensor) -> list[Tensor]:
    """The output and its gradients for a fixed random upstream gradient."""
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def errors(actual: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Largest error of the output, dq, dk, dv."""
    return [float((a.double() - e.double()).abs().max()) for a, e in zip(actual, expected, strict=True)]


@st.composite
def layouts(
    draw: st.DrawFn, *, shots: int = 7, contexts: tuple[int, int] = (1, 16), longest: int = 40
) -> ContextLayout:
    """Fewest and most contexts, of 1 to `longest` tokens, in up to so many shots, maybe a global prompt."""
    numbers = sorted(draw(st.lists(st.integers(-1, shots - 1), min_size=contexts[0], max_size=contexts[1])))
    lengths = draw(st.lists(st.integers(1, longest), min_size=len(numbers), max_size=len(numbers)))
    video = draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
    kinds = [Kind.VIDEO if v and s >= 0 else Kind.TEXT for v, s in zip(video, numbers, strict=True)]
    return ContextLayout(lengths=lengths, kinds=kinds, shots=numbers)
