"""route against loops written from the definition, for every policy and rule.

Queries and keys are small integers and context lengths powers of two, so scores are exact in every backend
and ties abound.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from attending import shots_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, route

BACKENDS = ("reference", "cpu", "auto")


@st.composite
def layouts(draw: st.DrawFn) -> ContextLayout:
    shots = sorted(draw(st.lists(st.integers(-1, 5), min_size=1, max_size=14)))
    lengths = draw(st.lists(st.sampled_from([1, 2, 4]), min_size=len(shots), max_size=len(shots)))
    video = draw(st.lists(st.booleans(), min_size=len(shots), max_size=len(shots)))
    kinds = [Kind.VIDEO if v and s >= 0 else Kind.TEXT for v, s in zip(video, shots, strict=True)]
    return ContextLayout(lengths=lengths, kinds=kinds, shots=shots)


def anchors_of(layout: ContextLayout, i: int, text_anchors: str) -> set[int]:
    """Contexts that queries of context i always attend to."""
    found = set()
    for j in range(layout.count):
        text = layout.kinds[j] is Kind.TEXT
        if layout.shots[i] == -1:
            anchor = j == i
        else:
            anchor = layout.shots[j] == layout.shots[i] or (text and layout.shots[j] == -1)
        if anchor or (text_anchors == "all" and text and j < i):
            found.add(j)
    return found


def candidates_of(layout: ContextLayout, i: int, text_anchors: str, causal: bool) -> list[int]:
    """Contexts that queries of context i may be routed to."""
    anchors = anchors_of(layout, i, text_anchors)
    return [j for j in range(layout.count) if j not in anchors and (j < i or not causal)]


def routed_of(
    layout: ContextLayout, i: int, candidates: list[int], q: Tensor, k: Tensor, policy: str, top_k: int
) -> set[int]:
    """Routed contexts of one query q (D,) in context i, of one head; k (L, D). Not for policy random."""
    earlier = [j for j in candidates if layout.kinds[j] is Kind.VIDEO and layout.shots[j] < layout.shots[i]]
    if policy == "dense":
        return set(candidates)
    if policy == "window":
        return set(earlier[len(earlier) - min(top_k, len(earlier)) :])
    if policy == "first-frame":
        return {min(j for j in earlier if layout.shots[j] == s) for s in {layout.shots[j] for j in earlier}}
    score = {}
    for j in candidates:
        tokens = [k[t].tolist() for t in range(layout.offsets[j], layout.offsets[j + 1])]
        mean = [sum(column) / len(tokens) for column in zip(*tokens, strict=True)]
        score[j] = sum(a * b for a, b in zip(q.tolist(), mean, strict=True))
    return set(sorted(candidates, key=lambda j: (-score[j], j))[:top_k])


@given(
    layout=layouts(),
    policy=st.sampled_from(["moc", "dense", "window", "first-frame"]),
    causal=st.booleans(),
    text_anchors=st.sampled_from(["own", "all"]),
    top_k=st.integers(0, 6),
    first=st.integers(0, 13),
    seed=st.integers(0, 99),
)
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_routes_as_defined(
    layout: ContextLayout, policy: str, causal: bool, text_anchors: str, top_k: int, first: int, seed: int
) -> None:
    batch, heads, dim = 2, 2, 3
    first = min(first, layout.count - 1)
    start = layout.offsets[first]
    generator = torch.Generator().manual_seed(seed)
    q, k = (
        torch.randint(-2, 3, (batch, layout.length, heads, dim), generator=generator).float() for _ in "qk"
    )
    expected = torch.zeros(batch, heads, layout.length - start, layout.count, dtype=torch.bool)
    anchors = torch.zeros(layout.length - start, layout.count, dtype=torch.bool)
    for b, h, t in itertools.product(range(batch), range(heads), range(start, layout.length)):
        i = int(layout.token_contexts()[t])
        candidates = candidates_of(layout, i, text_anchors, causal)
        routed = routed_of(layout, i, candidates, q[b, t, h], k[b, :, h], policy, top_k)
        expected[b, h, t - start, list(routed)] = True
        anchors[t - start, list(anchors_of(layout, i, text_anchors))] = True
    for backend in BACKENDS:
        selection = route(
            q[:, start:],
            k,
            layout,
            top_k=top_k,
            causal=causal,
            policy=policy,
            text_anchors=text_anchors,
            backend=backend,
        )
        assert torch.equal(selection.routed(), expected)
        assert torch.equal(selection.anchors(), anchors)


@given(layout=layouts(), causal=st.booleans(), top_k=st.integers(0, 4), seed=st.integers(0, 2**70))
@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
def test_random_policy_keeps_rules_and_budget(
    layout: ContextLayout, causal: bool, top_k: int, seed: int
) -> None:
    q = torch.zeros(2, layout.length, 2, 3)
    picks = [
        route(q, q, layout, top_k=top_k, causal=causal, policy="random", generator=seed, backend=b).routed()
        for b in BACKENDS
    ]
    assert all(torch.equal(picks[0], other) for other in picks[1:])
    for t, i in enumerate(layout.token_contexts().tolist()):
        candidates = candidates_of(layout, i, "own", causal)
        allowed = torch.zeros(layout.count, dtype=torch.bool)
        allowed[candidates] = True
        assert not (picks[0][:, :, t] & ~allowed).any()
        assert (picks[0][:, :, t].sum(-1) == min(top_k, len(candidates))).all()


def test_random_policy_is_even_and_differs_by_token_head_and_seed() -> None:
    count, video = 10, [Kind.VIDEO] * 11
    layout = ContextLayout(lengths=[1] * count + [4000], kinds=video, shots=range(count + 1))
    q, k = torch.zeros(1, 4000, 2, 2), torch.zeros(1, layout.length, 2, 2)
    one = route(q, k, layout, top_k=3, policy="random", generator=1).routed()[..., :count]
    two = route(q, k, layout, top_k=3, policy="random", generator=2).routed()[..., :count]
    share = one.float().mean(dim=2)  # (1, 2, 10)
    assert torch.allclose(share, torch.full_like(share, 0.3), atol=0.04)  # five standard deviations
    both = (one[:, 0] & one[:, 1]).float().mean()
    assert abs(float(both) - 0.09) < 0.02
    assert not torch.equal(one, two)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_to_the_lower_index(backend: str) -> None:
    layout = shots_of([2] * 6 + [3])
    q, k = torch.ones(1, 3, 1, 4), torch.ones(1, layout.length, 1, 4)
    selection = route(q, k, layout, top_k=2, backend=backend)
    assert selection.routed()[0, 0].tolist() == [[True, True] + [False] * 5] * 3


def test_tail_queries_route_as_in_the_full_pass(ragged: ContextLayout) -> None:
    q = torch.randn(1, ragged.length, 2, 8)
    k = torch.randn(1, ragged.length, 2, 8)
    tail = ragged.length - ragged.offsets[9]
    for options in (
        {"policy": "moc"},
        {"policy": "random"},
        {"policy": "moc", "drop_in": 1.0, "drop_off": 0.9},
    ):
        full = route(q, k, ragged, top_k=3, generator=5, **options).routed()
        assert torch.equal(
            route(q[:, -tail:], k, ragged, top_k=3, generator=5, **options).routed(), full[:, :, -tail:]
        )


def test_given_descriptors_replace_pooling(ragged: ContextLayout) -> None:
    q, k = torch.randn(1, ragged.length, 2, 8), torch.randn(1, ragged.length, 2, 8)
    means = torch.stack([k[:, a:b].mean(1) for a, b in itertools.pairwise(ragged.offsets)], dim=1)
    expected = route(q, k, ragged, top_k=2).routed()
    for backend in BACKENDS:
        assert torch.equal(
            route(q, None, ragged, top_k=2, descriptors=means, backend=backend).routed(), expected
        )
    flipped = route(q, k, ragged, top_k=2, descriptors=-means).routed()
    assert not torch.equal(flipped, expected)
    with pytest.raises(ValueError, match="keys or descriptors"):
        route(q, None, ragged, top_k=2)
