"""A case of the benchmark: its tensors, and what is measured on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measuring import Clock, dense_ways, extra_memory
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from mocgen_kernels import ContextLayout, Kind, Selection, attention_info, moc_attention, route

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Random q, k and v over contexts of equal length, each a shot of its own."""

    length: int  # tokens
    context: int  # tokens
    top_k: int
    heads: int
    dim: int
    dtype: str  # a key of DTYPES
    device: str
    backend: str
    causal: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Of `route` and `moc_attention`."""
        return {"top_k": self.top_k, "causal": self.causal, "backend": self.backend}

    @property
    def layout(self) -> ContextLayout:
        """Contexts of equal length; what is left over is one more."""
        whole, rest = divmod(self.length, self.context)
        lengths = [self.context] * whole + [rest] * (rest > 0)
        return ContextLayout(
            lengths=lengths, kinds=[Kind.VIDEO] * len(lengths), shots=list(range(len(lengths)))
        )

    def tensors(self) -> list[Tensor]:
        """q, k, v and the gradient of the output, (1, L, H, D) each, the same in every run."""
        generator = torch.Generator(self.device).manual_seed(0)
        shape = (1, self.length, self.heads, self.dim)
        dtype = DTYPES[self.dtype]
        return [torch.randn(shape, generator=generator, device=self.device, dtype=dtype) for _ in range(4)]


def measure_moc(case: Case, tensors: list[Tensor], clock: Clock, *, backward: bool) -> dict[str, Any]:
    """Seconds forward, routing included and alone, and with the backward pass; memory; what was chosen."""
    (q, k, v, _), layout, settings = tensors, case.layout, case.settings

    def ours() -> Tensor:
        return moc_attention(q, k, v, layout, **settings)

    size = 4 * q.numel() * q.element_size()
    memory = (extra_memory(case.device, ours) - size / 4) / size  # first: nothing is warm
    selection = route(q, k, layout, **settings)
    row: dict[str, Any] = {
        "density": first_head(selection).density(),
        "method": attention_info(selection, q, backend=case.backend).method,
        "extra_memory": memory,
        "forward": clock.time(ours),
        "routing": clock.time(lambda: route(q, k, layout, **settings)),
    }
    if backward:
        row["forward_backward"] = clock.time(with_backward(ours, tensors))
    return row


def first_head(selection: Selection) -> Selection:
    """The choice of one head; to count those of all heads takes longer than to attend."""
    words = None if selection.words is None else selection.words[:1, :1]
    return replace(selection, batch=1, heads=1, words=words)


def measure_dense(
    tensors: list[Tensor], device: str, clock: Clock, *, backward: bool
) -> dict[str, dict[str, float | None]]:
    """Seconds of dense attention: {"forward": {backend: seconds}, …}; None where a backend cannot run."""
    ways = dict(dense_ways(device, *tensors[:3]))
    times = {"forward": {name: clock.time(attend) for name, attend in ways.items()}}
    if backward:
        both = {name: clock.time(with_backward(attend, tensors)) for name, attend in ways.items()}
        times["forward_backward"] = both
    return times


def with_backward(attend: Callable[[], Tensor], tensors: list[Tensor]) -> Callable[[], None]:
    """The forward pass and the backward pass: q, k and v, then the gradient of the output."""
    *leaves, grad = tensors

    def run() -> None:
        for x in leaves:
            x.requires_grad_(True).grad = None
        try:
            attend().backward(grad)
        finally:
            for x in leaves:
                x.requires_grad_(False).grad = None

    return run


def chosen(case: Case, q: Tensor, k: Tensor) -> Selection:
    """What the case routes to."""
    return route(q, k, case.layout, **case.settings)


def best_dense(times: dict[str, float | None]) -> float | None:
    """The fastest backend's seconds; None if none ran."""
    return min((t for t in times.values() if t is not None), default=None)
