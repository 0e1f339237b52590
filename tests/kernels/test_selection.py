"""Selection: packing, masks, counts, density; and the rules that shape it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, route
from mocgen_kernels.selection import pack_bits, pack_columns, unpack_bits

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_bits_survive_packing(count: int) -> None:
    bits = torch.rand(2, 3, 5, count) < 0.5
    bits[0] = True
    words = pack_bits(bits)
    assert words.dtype is torch.int32
    assert words.shape == (2, 3, 5, -(-count // 32))
    assert torch.equal(unpack_bits(words, count), bits)
    for columns in (bits.transpose(2, 3), bits.transpose(2, 3).float()):
        halves = pack_columns(columns)  # (2, 3, 5, ceil(count / 16))
        assert torch.equal(halves, words.view(torch.int16)[..., : halves.shape[-1]])


@pytest.mark.parametrize("policy", ["moc", "window"])
@pytest.mark.parametrize("first", [0, 9])
def test_counts_and_density_agree_with_the_mask(
    ragged: ContextLayout, qkv: Make, policy: str, first: int
) -> None:
    q, k, _ = qkv(ragged, tail=ragged.length - ragged.offsets[first])
    selection = route(q, k, ragged, top_k=2, policy=policy)
    mask, routed = selection.dense_mask(), selection.routed()
    assert mask.shape == (2, 3, q.shape[1], ragged.length)
    assert selection.density() == pytest.approx(float(mask.double().mean()))
    query_contexts = ragged.token_contexts()[ragged.offsets[first] :]
    counts = selection.counts()
    assert counts.shape == (2, 3, ragged.count - first, ragged.count)
    for i in range(first, ragged.count):
        assert torch.equal(counts[:, :, i - first], routed[:, :, query_contexts == i].sum(dim=2))


def test_density_of_causal_pairs(ragged: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(ragged)
    selection = route(q, k, ragged, top_k=2)
    allowed = route(q, k, ragged, policy="dense").dense_mask()
    expected = float(selection.dense_mask().sum() / allowed.sum())
    assert selection.density("causal") == pytest.approx(expected)
    assert selection.density("causal") > selection.density()


@pytest.mark.parametrize("policy", ["moc", "dense", "window", "first-frame", "random"])
@pytest.mark.parametrize("text_anchors", ["own", "all"])
def test_causal_routing_is_a_dag_over_shots(
    ragged: ContextLayout, qkv: Make, policy: str, text_anchors: str
) -> None:
    """No query sees a token of a later shot, so finished shots never depend on later ones."""
    q, k, _ = qkv(ragged)
    mask = route(q, k, ragged, top_k=3, policy=policy, text_anchors=text_anchors).dense_mask()
    shots = torch.tensor(ragged.shots)[ragged.token_contexts()]  # (L,)
    assert not mask[..., shots > shots[:, None]].any()


def test_non_causal_routing_sees_the_future(ragged: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(ragged)
    mask = route(q, k, ragged, top_k=3, causal=False).dense_mask()
    shots = torch.tensor(ragged.shots)[ragged.token_contexts()]
    assert mask[..., shots > shots[:, None]].any()


def test_anchors_cost_no_budget(ragged: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(ragged)
    selection = route(q, k, ragged, top_k=2)
    routed, anchors = selection.routed(), selection.anchors()
    assert not (routed & anchors).any()
    last = slice(ragged.offsets[-4], None)  # the last shot: many candidates
    assert (routed[:, :, last].sum(-1) == 2).all()
    assert (anchors[last].sum(-1) == 4).all()  # global prompt, caption, two frames


def test_the_global_prompt_sees_only_itself_and_what_it_is_routed_to(qkv: Make) -> None:
    kinds = [Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.VIDEO]
    layout = ContextLayout(lengths=[2, 3, 2, 4], kinds=kinds, shots=[-1, -1, 0, 0])
    q, k, _ = qkv(layout)
    assert (
        route(q, k, layout).anchors()[:5].tolist()
        == [[True, False, False, False]] * 2 + [[False, True, False, False]] * 3
    )
    assert not route(q, k, layout, top_k=1).routed()[:, :, :2].any()
    assert (route(q, k, layout, top_k=1, causal=False).routed()[:, :, :5].sum(-1) == 1).all()


def test_a_single_shot_needs_no_scores() -> None:
    layout = ContextLayout(lengths=[2, 3, 4], kinds=[Kind.TEXT, Kind.TEXT, Kind.VIDEO], shots=[-1, 0, 0])
    q = torch.full((1, 7, 1, 2), torch.nan)
    selection = route(q, None, layout)
    assert selection.table is not None
    assert selection.density() == 1.0


def test_selection_of_a_long_video_is_small() -> None:
    """180k tokens, 24 heads, 115 contexts: at most 100 MB."""
    words = pack_bits(torch.zeros(1, 1, 1000, 115, dtype=torch.bool))
    assert words.numel() * words.element_size() / 1000 * 24 * 180_000 <= 100e6
