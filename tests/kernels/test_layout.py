"""ContextLayout: what it accepts, refuses and knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mocgen_kernels import ContextLayout, Kind

T, V = Kind.TEXT, Kind.VIDEO


def test_offsets_counts_and_token_contexts() -> None:
    layout = ContextLayout(lengths=[2, 1, 3], kinds=[T, T, V], shots=[-1, 0, 0])
    assert (layout.count, layout.length, layout.offsets) == (3, 6, (0, 2, 3, 6))
    assert layout.token_contexts().tolist() == [0, 0, 1, 2, 2, 2]


def test_equal_layouts_are_equal_and_frozen() -> None:
    a = ContextLayout(lengths=[2, 1], kinds=[T, V], shots=[0, 0])
    b = ContextLayout(lengths=torch.tensor([2, 1]).tolist(), kinds=(T, V), shots=(0, 0))
    assert a == b
    assert hash(a) == hash(b)
    with pytest.raises(AttributeError):
        a.lengths = (1, 2)  # type: ignore[misc]


def test_shots_may_start_late_and_have_gaps() -> None:
    assert ContextLayout(lengths=[1, 1], kinds=[V, V], shots=[3, 7]).count == 2


@pytest.mark.parametrize(
    ("lengths", "kinds", "shots", "message"),
    [
        ([], [], [], "at least one context"),
        ([1, 2], [T], [0, 0], "one entry per context"),
        ([1, 0], [T, V], [0, 0], "at least one token"),
        ([1, 1], [T, V], [1, 0], "must not decrease"),
        ([1, 1, 1], [V, V, V], [0, 1, 0], "must not decrease"),
        ([1], [T], [-2], "count from 0"),
        ([1, 1], [T, V], [-1, -1], "holds text only"),
        ([1, 1], [T, T], [0, -1], "must not decrease"),
    ],
)
def test_refuses(lengths: list[int], kinds: list[Kind], shots: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextLayout(lengths=lengths, kinds=kinds, shots=shots)


def test_queries_begin_at_a_context() -> None:
    layout = ContextLayout(lengths=[2, 1, 3], kinds=[T, T, V], shots=[-1, 0, 0])
    assert [layout.first_query_context(n) for n in (6, 4, 3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="context boundary"):
        layout.first_query_context(2)
    for length in (0, 7):
        with pytest.raises(ValueError, match="do not fit"):
            layout.first_query_context(length)


@pytest.mark.parametrize("wrong", [{"lengths": [1.5]}, {"lengths": ["3"]}, {"shots": [0.5]}], ids=str)
def test_refuses_what_is_no_whole_number(wrong: dict[str, list[Any]]) -> None:
    with pytest.raises(TypeError, match="integer"):
        ContextLayout(**{"lengths": [1], "kinds": [V], "shots": [0], **wrong})
