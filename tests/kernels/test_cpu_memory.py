"""The CPU backend creates no tensor of the size of the dense problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mocgen_kernels import ContextLayout, Kind, cpu, masked, route, routed_attention

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The probe sees its own thread only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements that any operation of its thread returns."""

    largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [
            x.untyped_storage().nbytes() // x.element_size()
            for x in tree_leaves(result)
            if isinstance(x, Tensor)
        ]
        self.largest = max([self.largest, *sizes])
        return result


def shots_of(count: int, frames: int, tokens: int) -> ContextLayout:
    lengths = [4] + ([8] + [tokens] * frames) * count
    kinds = [Kind.TEXT] + ([Kind.TEXT] + [Kind.VIDEO] * frames) * count
    shots = [-1] + [shot for shot in range(count) for _ in range(frames + 1)]
    return ContextLayout(lengths=lengths, kinds=kinds, shots=shots)


@pytest.mark.parametrize("attend", [cpu.routed_attention, masked.routed_attention])
def test_no_tensor_grows_with_the_square(qkv: Make, attend: Callable[..., Tensor]) -> None:
    layout = shots_of(16, 4, 128)
    q, k, v = qkv(layout, batch=1, heads=2, dim=16)
    assert layout.length > 8000
    with LargestTensor() as seen:
        selection = route(q, k, layout, top_k=3, backend="cpu")
        attend(q, k, v, selection).sum().backward()
    assert seen.largest <= (1 << 22)  # a chunk of scores
    assert seen.largest < layout.length**2 / 10


def test_results_of_many_visits_are_bounded(qkv: Make) -> None:
    """Many short contexts and a large budget: the table of results stays within 2²⁵ numbers."""
    layout = ContextLayout(lengths=[4] * 1024, kinds=[Kind.VIDEO] * 1024, shots=range(1024))
    q, k, v = qkv(layout, batch=1, heads=1, dim=128)
    selection = route(q, k, layout, top_k=256, causal=False)
    with LargestTensor() as seen, torch.no_grad():
        cpu.routed_attention(q, k, v, selection)
    assert seen.largest <= 1.1 * 2**25


def test_the_probe_sees_dense_masks(qkv: Make) -> None:
    layout = shots_of(4, 4, 16)
    q, k, v = qkv(layout, batch=1, heads=1, dim=8)
    selection = route(q, k, layout, top_k=3)
    with LargestTensor() as seen, torch.no_grad():
        routed_attention(q, k, v, layout, selection, backend="reference")
    assert seen.largest >= layout.length**2
