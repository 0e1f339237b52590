"""While gradients are wanted other ways of computing are chosen on the CPU; they give the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import mocgen_kernels.grouped as grouped
from mocgen_kernels import ContextLayout, Kind, reference, route

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.mark.parametrize("top_k", [1, 3, 99])
@pytest.mark.parametrize("most_logits", [0, 2**26])
def test_with_and_without_kept_logits(
    qkv: Make, monkeypatch: pytest.MonkeyPatch, top_k: int, most_logits: int
) -> None:
    monkeypatch.setattr(grouped, "MOST_LOGITS", most_logits)
    layout = ContextLayout(
        lengths=[4, 8, 16, 8, 16, 8, 16],
        kinds=[Kind.TEXT, *[Kind.TEXT, Kind.VIDEO] * 3],
        shots=[-1, 0, 0, 1, 1, 2, 2],
    )
    q, k, v = (x.requires_grad_() for x in qkv(layout, batch=2, heads=2, dim=16))
    selection = route(q, k, layout, top_k=top_k)
    expected = reference.routed_attention(q, k, v, layout, selection)
    wanted = torch.autograd.grad(expected.square().sum(), (q, k, v))
    out = grouped.grouped_attention(q, k, v, selection)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    for got, want in zip(torch.autograd.grad(out.square().sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
