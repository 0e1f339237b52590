"""What is counted while a shot is made."""

from __future__ import annotations

import pytest
import torch

from mocgen.evaluation.watch import ReturnWatch, object_tokens
from mocgen_kernels import ContextLayout, Kind, route

LAYOUT = ContextLayout(
    lengths=[4, 9, 9] * 3,
    kinds=[Kind.TEXT, Kind.VIDEO, Kind.VIDEO] * 3,
    shots=[shot for shot in range(3) for _ in range(3)],
)
QUERIES, HEADS, DIM = 22, 2, 8


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, QUERIES, HEADS, DIM, generator=generator)
    return q, torch.randn(1, LAYOUT.length, HEADS, DIM, generator=generator)


@pytest.mark.parametrize(
    ("policy", "top_k"),
    [("dense", 1), ("moc", 1), ("moc", 3), ("window", 2), ("random", 2), ("first-frame", 1)],
)
def test_the_density_is_that_of_the_selections(policy, top_k: int) -> None:
    q, k = tensors()
    watch = ReturnWatch(layers=2, heads=HEADS, seen=0)
    selections = []
    for layer in range(2):
        selections.append(route(q, k, LAYOUT, policy=policy, top_k=top_k, generator=layer))
        watch.record(layer, q, k, LAYOUT, selections[-1])
    assert watch.density == pytest.approx(sum(s.density() for s in selections) / 2)
    mask = selections[0].dense_mask()
    assert selections[0].density() == pytest.approx(float(mask.float().mean()))


def test_the_density_counts_contexts_that_the_outer_loop_left_out() -> None:
    q, k = tensors()
    longer = ContextLayout(
        lengths=[*LAYOUT.lengths, 44], kinds=[*LAYOUT.kinds, Kind.VIDEO], shots=[*LAYOUT.shots, 3]
    )
    watch = ReturnWatch(layers=1, heads=HEADS, seen=0)
    selection = route(q, k, LAYOUT, policy="dense")
    watch.record(0, q, k, LAYOUT, selection, scene=longer, contexts=range(9))
    assert watch.density == pytest.approx(selection.density() * LAYOUT.length / longer.length)


@pytest.mark.parametrize(
    ("policy", "seen", "share"), [("dense", 0, 1.0), ("window", 0, 0.0), ("window", 1, 1.0)]
)
def test_it_knows_who_found_the_shot(policy, seen: int, share: float) -> None:
    q, k = tensors()
    watch = ReturnWatch(layers=1, heads=HEADS, seen=seen)
    watch.record(0, q, k, LAYOUT, route(q, k, LAYOUT, policy=policy, top_k=2))
    found = watch.routed_to_seen(torch.ones(18, dtype=torch.bool))
    assert found.shape == (1, HEADS)
    assert (found == share).all()


def test_only_tokens_of_the_object_count() -> None:
    q, k = tensors()
    watch = ReturnWatch(layers=1, heads=HEADS, seen=1)
    selection = route(q, k, LAYOUT, top_k=1)
    watch.record(0, q, k, LAYOUT, selection)
    tokens = torch.zeros(18, dtype=torch.bool)
    tokens[[3, 7]] = True
    routed = selection.routed()[0][:, 4:]  # (H, 18, C), without the caption
    expected = routed[:, tokens][..., [4, 5]].any(-1).float().mean(-1)
    assert torch.equal(watch.routed_to_seen(tokens)[0], expected)


def test_flops_are_those_of_the_pairs_and_of_the_scores() -> None:
    q, k = tensors()
    dense, moc = (ReturnWatch(layers=1, heads=HEADS, seen=0) for _ in range(2))
    dense.record(0, q, k, LAYOUT, route(q, k, LAYOUT, policy="dense"))
    assert dense.flops == 4 * QUERIES * LAYOUT.length * DIM * HEADS
    selection = route(q, k, LAYOUT, top_k=1)
    moc.record(0, q, k, LAYOUT, selection)
    assert moc.flops == pytest.approx(HEADS * DIM * (4 * selection.pairs() + 2 * QUERIES * 6))


def test_tokens_of_the_object_are_those_it_covers() -> None:
    where = torch.tensor([[0.25, 0.75, 0.2]] * 4 + [[0.75, 0.25, 0.01]] * 4)
    tokens = object_tokens(where, grid=2, group=4).view(2, 2, 2)
    assert tokens[0].tolist() == [[False, False], [True, False]]
    assert tokens[1].tolist() == [[False, True], [False, False]]
