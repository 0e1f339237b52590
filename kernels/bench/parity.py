"""The Triton backend against attention in fp64, on queries drawn from sequences of any length.

The gradient of the output is zero but for the drawn queries. So their rows of q, and all keys and values, are
all that the exact output and gradients depend on: memory grows with the length, not with its square.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from cases import DTYPES
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, Selection, route, routed_attention
from mocgen_kernels.rules import Routing, candidate_table

BOUNDS = {"fp32": 1e-4, "fp16": 4e-3, "bf16": 3e-2}  # ‖ours − exact‖ / ‖exact‖
_TIE = 1e-4  # scores that differ by less, in their size, may be ranked either way


@dataclass(frozen=True, kw_only=True)
class Parity:
    """A ragged layout of shots with captions and frames, routed causally."""

    length: int  # tokens
    frame: int  # tokens of the longest frame
    heads: int
    dim: int
    dtype: str
    way: str  # of the routed contexts: "lists", "registers" (16 bits only) or "auto"
    top_k: int = 3
    queries: int = 48  # drawn

    @property
    def layout(self) -> ContextLayout:
        """A global prompt, then shots of a caption and one to six frames of random lengths."""
        draw = random.Random(self.length)
        lengths, kinds, shots = [7], [Kind.TEXT], [-1]
        while sum(lengths) < self.length:
            shot = shots[-1] + 1
            frames = [draw.randint(self.frame // 2, self.frame) for _ in range(draw.randint(1, 6))]
            lengths += [draw.randint(1, 80), *frames]
            kinds += [Kind.TEXT, *[Kind.VIDEO] * len(frames)]
            shots += [shot] * (1 + len(frames))
        return ContextLayout(lengths=lengths, kinds=kinds, shots=shots)


def check(case: Parity, device: str) -> dict[str, Any]:
    """Relative errors of output, dq, dk and dv, of the worst head, and whether they are within BOUNDS.

    "wrong": drawn queries whose choice is not the best.
    """
    layout, generator = case.layout, torch.Generator(device).manual_seed(0)
    shape = (1, layout.length, case.heads, case.dim)
    q, k, v, grad = (
        torch.randn(shape, generator=generator, device=device).to(DTYPES[case.dtype]) for _ in range(4)
    )
    drawn = torch.randperm(layout.length, generator=generator, device=device)[: case.queries].sort().values
    upstream = torch.zeros_like(grad).index_copy_(1, drawn, grad[:, drawn])
    leaves = [x.requires_grad_() for x in (q, k, v)]
    with way(case.way):
        selection = route(q, k, layout, top_k=case.top_k, backend="triton")
        out = routed_attention(q, k, v, layout, selection, backend="triton")
        ours = [out.detach(), *torch.autograd.grad(out, leaves, upstream)]
    worst = [0.0] * 4
    wrong = 0
    for head in range(case.heads):
        rows = [x.detach()[0, :, head] for x in (q, k, v, grad)]
        attended = _attended(selection, head, drawn)
        wrong += _wrong(rows[0][drawn], rows[1], layout, case.top_k, attended, drawn)
        mine = [x[0, :, head] for x in ours]
        for i, error in enumerate(_errors(mine, rows, attended, layout, drawn)):
            worst[i] = max(worst[i], error)
    names = ("out", "dq", "dk", "dv")
    passed = wrong == 0 and max(worst) <= BOUNDS[case.dtype]
    return {"tokens": layout.length, **dict(zip(names, worst, strict=True)), "wrong": wrong, "passed": passed}


@contextmanager
def way(name: str) -> Iterator[None]:
    """Routed contexts by lists of their visitors, or in registers however little tiles share."""
    from mocgen_kernels._triton import overlap

    longest, pays = overlap.LONGEST, overlap.sharing_pays
    try:
        if name == "lists":
            overlap.LONGEST = 0
        elif name == "registers":
            overlap.LONGEST, overlap.sharing_pays = 1 << 30, lambda done, wanted, mean: True
        yield
    finally:
        overlap.LONGEST, overlap.sharing_pays = longest, pays


def _attended(selection: Selection, head: int, drawn: Tensor) -> Tensor:
    """Contexts that the drawn queries attend to, anchors included: (S, C) bool."""
    words = selection.explicit_words(drawn.device)[0, head, drawn]  # (S, W)
    index = torch.arange(selection.layout.count, device=words.device)
    bits = (words[:, index // 32] >> (index % 32)) & 1
    contexts = selection.layout.token_contexts()[drawn.cpu()]
    return bits.bool() | selection.anchor_table[contexts].to(words.device)


def _wrong(q: Tensor, k: Tensor, layout: ContextLayout, top_k: int, attended: Tensor, drawn: Tensor) -> int:
    """Queries (S, D) that were not routed to the candidates of highest score, as many as they may."""
    means = torch.stack([part.double().mean(0) for part in k.split(list(layout.lengths))])  # (C, D)
    scores = q.double() @ means.t()
    contexts = layout.token_contexts()[drawn.cpu()]
    candidates = candidate_table(layout, 0, Routing(top_k=top_k))[contexts].to(q.device)  # (S, C)
    routed = attended & candidates
    number = routed.sum(1) == candidates.sum(1).clamp(max=top_k)
    lowest = scores.masked_fill(~routed, torch.inf).amin(1)
    highest = scores.masked_fill(routed | ~candidates, -torch.inf).amax(1)
    best = lowest >= highest - _TIE * scores.abs().amax(1)
    return int((~(number & best)).sum())


def _errors(
    ours: list[Tensor], rows: list[Tensor], attended: Tensor, layout: ContextLayout, drawn: Tensor
) -> Iterator[float]:
    """‖ours − exact‖ / ‖exact‖ of output and gradients of one head; rows: q, k, v and grad (L, D)."""
    q, k, v = (x.double() for x in rows[:3])
    q = q[drawn]
    for x in (q, k, v):
        x.requires_grad_()
    mask = attended[:, layout.token_contexts(q.device)]  # (S, L)
    logits = (q @ k.t() * q.shape[1] ** -0.5).masked_fill(~mask, -torch.inf)
    out = logits.softmax(1) @ v
    exact = [out.detach(), *torch.autograd.grad(out, (q, k, v), rows[3][drawn].double())]
    assert not ours[1].index_fill(0, drawn, 0.0).any(), "a query without an upstream gradient has one"
    mine = [ours[0][drawn], ours[1][drawn], *ours[2:]]
    for a, b in zip(mine, exact, strict=True):
        yield float((a.double() - b).norm() / b.norm())
