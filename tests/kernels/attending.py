"""What tests of attention share: attention written out, its gradients, errors, layouts of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mocgen_kernels import ContextLayout, Kind, blocks, cpu, grouped, masked
from mocgen_kernels.selection import Selection

# how to attend to a selection with words, and settings of `blocks`
WAYS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "visits": (cpu.routed_attention, {}),
    "visits, some heads at a time": (cpu.routed_attention, {"_WORTH_OURS": 0}),
    "visits, head by head": (cpu.routed_attention, {"_MOST_NUMBERS": 0}),
    "masked products": (masked.routed_attention, {}),
    "grouped": (grouped.grouped_attention, {}),
}
VISITS = [way for way in WAYS if way.startswith("visits")]


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention written out: q (B, Lq, H, D), mask (B, H, Lq, L)."""
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same by torch, which keeps logits in fp32."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def with_gradients(out: Tensor, *leaves: Tensor) -> list[Tensor]:
    """The output and its gradients for a fixed random upstream gradient."""
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def by_way(way: str, q: Tensor, k: Tensor, v: Tensor, selection: Selection, *leaves: Tensor) -> list[Tensor]:
    """As `with_gradients`, of q, k and v unless told, in one of `WAYS`."""
    attend, settings = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(blocks, name, value)
        return with_gradients(attend(q, k, v, selection), *(leaves or (q, k, v)))


def errors(actual: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Largest error of the output, dq, dk, dv."""
    return [float((a.double() - e.double()).abs().max()) for a, e in zip(actual, expected, strict=True)]


def shots_of(lengths: list[int]) -> ContextLayout:
    """Every context a shot."""
    return ContextLayout(lengths=lengths, kinds=[Kind.VIDEO] * len(lengths), shots=range(len(lengths)))


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
