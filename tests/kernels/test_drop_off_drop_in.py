"""Drop-off and drop-in: bounds, statistics, determinism."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, route

COUNT, QUERIES = 40, 3000
LAYOUT = ContextLayout(
    lengths=[1] * COUNT + [QUERIES], kinds=[Kind.VIDEO] * (COUNT + 1), shots=range(COUNT + 1)
)


def routed(*, seed: int = 0, top_k: int = 10, backend: str = "auto", **options: float) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    q = torch.randn(1, QUERIES, 2, 8, generator=generator)
    k = torch.randn(1, LAYOUT.length, 2, 8, generator=generator)
    return route(q, k, LAYOUT, top_k=top_k, generator=seed, backend=backend, **options).routed()


def test_drop_off_drops_a_uniform_share() -> None:
    plain, dropped = routed(), routed(drop_off=0.5)
    assert not (dropped & ~plain).any()
    lost = 10 - dropped.sum(-1)  # ⌊10 p⌋ with p ~ U(0, 0.5): 0 … 4, evenly
    shares = torch.bincount(lost.flatten(), minlength=6) / lost.numel()
    assert torch.allclose(shares, torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 0.0]), atol=0.03)
    rank_lost = (plain & ~dropped).sum(2).float() / plain.sum(2).clamp(
        min=1
    )  # (1, 2, C): no context is favoured
    often = plain.sum(2) > 200
    assert (rank_lost[often] - 0.2).abs().max() < 0.15


def test_drop_in_adds_a_poisson_number() -> None:
    plain, added = routed(), routed(drop_in=1.5)
    assert not (plain & ~added).any()
    number = (added.sum(-1) - 10).double()
    assert abs(float(number.mean()) - 1.5) < 0.08
    assert abs(float(number.var()) - 1.5) < 0.15
    assert not added[..., COUNT].any()  # the own context is an anchor, not a candidate


def test_drop_in_cannot_add_more_than_there_is() -> None:
    assert routed(top_k=38, drop_in=50.0)[..., :COUNT].all()
    assert torch.equal(routed(top_k=COUNT, drop_in=50.0), routed(top_k=COUNT))


@pytest.mark.parametrize("options", [{"drop_off": 0.5}, {"drop_in": 1.0}, {"drop_off": 0.5, "drop_in": 1.0}])
def test_a_seed_decides_and_backends_agree(options: dict[str, float]) -> None:
    first = routed(seed=3, **options)
    assert torch.equal(first, routed(seed=3, **options))
    assert torch.equal(first, routed(seed=3, backend="reference", **options))
    assert not torch.equal(first, routed(seed=4, **options))


def test_generators_and_the_default_source() -> None:
    q, k = torch.randn(1, QUERIES, 1, 4), torch.randn(1, LAYOUT.length, 1, 4)

    def draw(generator: torch.Generator | None) -> Tensor:
        return route(q, k, LAYOUT, top_k=5, drop_in=1.0, generator=generator).routed()

    generator = torch.Generator().manual_seed(1)
    one, two = draw(generator), draw(generator)
    assert not torch.equal(one, two)
    assert torch.equal(one, draw(torch.Generator().manual_seed(1)))
    torch.manual_seed(2)
    three = draw(None)
    torch.manual_seed(2)
    assert torch.equal(three, draw(None))


def test_without_randomness_no_number_is_drawn() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    route(torch.randn(1, QUERIES, 1, 4), torch.randn(1, LAYOUT.length, 1, 4), LAYOUT, generator=generator)
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("policy", ["dense", "window", "first-frame", "random"])
def test_every_policy_can_be_perturbed(policy: str) -> None:
    q, k = torch.randn(1, QUERIES, 1, 4), torch.randn(1, LAYOUT.length, 1, 4)
    options = {"top_k": 10, "policy": policy, "generator": 9}
    plain = route(q, k, LAYOUT, **options).routed()
    dropped = route(q, k, LAYOUT, drop_off=0.5, **options).routed()
    assert not (dropped & ~plain).any()
    assert (dropped.sum(-1) < plain.sum(-1)).any()


def test_what_was_dropped_does_not_come_back() -> None:
    plain, dropped, both = routed(), routed(drop_off=0.5), routed(drop_off=0.5, drop_in=3.0)
    assert torch.equal(both & plain, dropped)
    assert (both & ~plain).any()
