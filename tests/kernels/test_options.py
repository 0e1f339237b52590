"""Options beyond the paper: own shot routed, top-p, several descriptors per context, compensation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from attending import shots_of
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, pool_descriptors, reference, route, routed_attention

BACKENDS = ("reference", "cpu", "auto")
Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def take() -> ContextLayout:
    """One shot of a caption and 60 frames of 3 tokens, then a shot of a caption and two frames."""
    kinds = [Kind.TEXT, *[Kind.VIDEO] * 60, Kind.TEXT, Kind.VIDEO, Kind.VIDEO]
    return ContextLayout(lengths=[2, *[3] * 60, 2, 4, 5], kinds=kinds, shots=[0] * 61 + [1] * 3)


def gradients(out: Tensor, *leaves: Tensor) -> list[Tensor]:
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def assert_equal_to_fp64(
    q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, backend: Any, compensate: bool, **options: Any
) -> None:
    selection = route(q, k, layout, backend=backend, **options)
    precise = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = gradients(written_out(*precise, layout, selection.routed(), selection, compensate), *precise)
    out = routed_attention(q, k, v, layout, selection, compensate=compensate, backend=backend)
    for mine, exact in zip(gradients(out, q, k, v), expected, strict=True):
        assert (mine.double() - exact).abs().max() <= 1e-5


def written_out(
    q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, routed: Tensor, selection: Any, compensate: bool
) -> Tensor:
    """Softmax attention with a weight per token and, with compensation, one per skipped context."""
    anchors, candidates = selection.anchor_table, selection.candidate_table
    contexts = layout.token_contexts()[-q.shape[1] :] - selection.first_query_context
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    attended = (routed | anchors[contexts])[..., layout.token_contexts()]
    weights = logits.exp() * attended
    top, total = torch.einsum("bhqk,bkhd->bqhd", weights, v), weights.sum(-1)
    for context, (begin, end) in enumerate(zip(layout.offsets, layout.offsets[1:], strict=False)):
        if not compensate:
            break
        key, value = k[:, begin:end].mean(1), v[:, begin:end].mean(1)  # (B, H, D)
        skipped = candidates[contexts, context] & ~routed[..., context]  # (B, H, Lq)
        logit = torch.einsum("bqhd,bhd->bhq", q, key) / math.sqrt(q.shape[-1])
        weight = (end - begin) * logit.exp() * skipped
        top = top + torch.einsum("bhq,bhd->bqhd", weight, value)
        total = total + weight
    return top / total.transpose(1, 2)[..., None]


@pytest.mark.parametrize("causal", [True, False])
def test_local_window_by_hand(causal: bool) -> None:
    """Caption, three frames | caption, four frames; window of one."""
    T, V = Kind.TEXT, Kind.VIDEO
    layout = ContextLayout(lengths=[1] * 9, kinds=[T, V, V, V, T, V, V, V, V], shots=[0] * 4 + [1] * 5)
    q = k = torch.randn(1, 9, 1, 4, generator=torch.Generator().manual_seed(0))
    selection = route(q, k, layout, top_k=1, local_window=1, causal=causal)
    anchors = selection.anchor_table.int().tolist()
    assert anchors[6] == [0, 0, 0, 0, 1, 1, 1, 1, 0]  # own caption, own frame and its neighbours
    assert anchors[8] == [0, 0, 0, 0, 1, 0, 0, 1, 1]
    assert anchors[4] == [0, 0, 0, 0, 1, 1, 0, 0, 0]
    candidates = selection.candidate_table.int().tolist()
    assert candidates[6] == [1, 1, 1, 1, 0, 0, 0, 0, 1]  # a later frame of the own shot may be routed to
    later = [0, 0, 0, 0] if causal else [1, 1, 1, 1]
    assert candidates[1] == [0, 0, 0, 1, *([0] if causal else [1]), *later]


@pytest.mark.parametrize("backend", BACKENDS)
def test_local_window_in_one_long_take(take: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(take, batch=1, heads=2)
    assert route(q, k, take, top_k=4, local_window=1).density() < 0.2
    assert route(q, k, take, top_k=4).density() > 0.8
    assert_equal_to_fp64(q, k, v, take, backend, False, top_k=4, local_window=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_frame_stays_an_anchor(take: ContextLayout, qkv: Make, backend: str) -> None:
    options = {"top_k": 2, "local_window": 1, "first_frame": True}
    q, k, v = qkv(take, batch=1, heads=2)
    anchors = route(q, k, take, **options).anchor_table
    near = route(q, k, take, top_k=2, local_window=1).anchor_table.clone()
    assert not torch.equal(anchors, near)
    for context, shot in enumerate(take.shots):
        if shot >= 0:
            kinds = [
                kind if other == shot else None for kind, other in zip(take.kinds, take.shots, strict=True)
            ]
            near[context, kinds.index(Kind.VIDEO)] = True
    assert torch.equal(anchors, near)
    assert_equal_to_fp64(q, k, v, take, backend, False, **options)


def test_wide_local_window_is_the_whole_shot(ragged: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(ragged)
    wide, whole = (route(q, k, ragged, top_k=2, local_window=w).dense_mask() for w in (99, None))
    assert torch.equal(wide, whole)


def test_finished_shots_do_not_depend_on_later_ones(ragged: ContextLayout, qkv: Make) -> None:
    """The last shot's queries alone choose what they choose in a full pass."""
    q, k, _ = qkv(ragged)
    tail = ragged.length - ragged.offsets[ragged.shots.index(4)]
    options: dict[str, Any] = {"top_k": 2, "local_window": 0, "top_p": 0.8, "sub_descriptors": 2}
    full, alone = route(q, k, ragged, **options), route(q[:, -tail:], k, ragged, **options)
    assert torch.equal(full.routed()[:, :, -tail:], alone.routed())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_takes_the_fewest(take: ContextLayout, qkv: Make, backend: Any, top_p: float) -> None:
    q, k, _ = qkv(take, batch=1, heads=2)
    chosen = route(q, k, take, top_k=9, local_window=0, top_p=top_p, backend=backend)
    scores = reference.scores(q, reference.descriptors(k, take)) / q.shape[-1] ** 0.5
    contexts = take.token_contexts()
    for token in range(0, take.length, 7):
        for head in range(2):
            mine = chosen.candidate_table[contexts[token]]
            mass = scores[0, head, token].masked_fill(~mine, -torch.inf).softmax(dim=0).tolist()
            expected, total = set(), 0.0
            for context in sorted(range(take.count), key=lambda c: -mass[c])[:9]:
                if total < top_p:
                    expected.add(context)
                    total += mass[context]
            assert set(chosen.routed()[0, head, token].nonzero().flatten().tolist()) == expected


def test_top_p_of_one_is_off(take: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(take)
    masks = (route(q, k, take, top_k=5, local_window=1, top_p=p).words for p in (1.0, 0.9999999))
    plain, nearly = (mask for mask in masks if mask is not None)
    assert torch.equal(plain, nearly)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sub_descriptors_take_the_best_piece(take: ContextLayout, backend: Any) -> None:
    """Pieces of 5 tokens in 2 are 2 and 3 long; of 3 in 2 they are 1 and 2; of 2 in 3: 1, 1 and 1."""
    q = torch.randn(1, take.length, 1, 8, generator=torch.Generator().manual_seed(0))
    k = torch.randn(1, take.length, 1, 8, generator=torch.Generator().manual_seed(1))
    for pieces in (2, 3):
        chosen = route(q, k, take, top_k=3, sub_descriptors=pieces, local_window=0, backend=backend)
        for token in range(0, take.length, 5):
            scores = {}
            row = chosen.candidate_table[take.token_contexts()[token]]
            for context in row.nonzero().flatten().tolist():
                keys = k[0, take.offsets[context] : take.offsets[context + 1], 0]
                n = len(keys)
                begins = [j * n // pieces for j in range(pieces + 1)]
                parts = [keys[a : max(a + 1, b)] for a, b in pairwise(begins)]
                scores[context] = max(float(q[0, token, 0] @ part.mean(0)) for part in parts)
            expected = set(sorted(scores, key=lambda c: -scores[c])[:3])
            assert set(chosen.routed()[0, 0, token].nonzero().flatten().tolist()) == expected


def test_sub_descriptors_find_a_needle() -> None:
    """One telling token among 64: its context's mean hides it, one of eight pieces does not."""
    layout = shots_of([64] * 8)
    q, k = torch.ones(1, 64, 1, 4), torch.zeros(1, layout.length, 1, 4)
    k[:, 2 * 64 + 5] = 2.5
    k[:, 4 * 64 : 5 * 64] = 0.2
    for pieces, found in ((1, 4), (8, 2)):
        routed = route(q, k, layout, top_k=1, sub_descriptors=pieces).routed()
        assert bool(routed[..., found].all())


def test_given_descriptors_are_used(take: ContextLayout, qkv: Make) -> None:
    q, k, _ = qkv(take)
    options: dict[str, Any] = {"top_k": 3, "local_window": 0, "sub_descriptors": 2}
    means = pool_descriptors(k, take, sub_descriptors=2)
    given, pooled = route(q, None, take, descriptors=means, **options), route(q, k, take, **options)
    assert torch.equal(given.routed(), pooled.routed())
    with pytest.raises(ValueError, match="descriptors must be"):
        route(q, None, take, descriptors=means[:, ::2], **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("policy", ["moc", "window", "random"])
@pytest.mark.parametrize("first", [0, 9])
def test_compensation(ragged: ContextLayout, qkv: Make, backend: str, policy: str, first: int) -> None:
    q, k, v = qkv(ragged, tail=ragged.length - ragged.offsets[first])
    assert_equal_to_fp64(q, k, v, ragged, backend, True, top_k=1, policy=policy, generator=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_options_together(take: ContextLayout, qkv: Make, backend: str) -> None:
    options: dict[str, Any] = {"top_k": 6, "local_window": 1, "top_p": 0.5, "sub_descriptors": 2}
    assert_equal_to_fp64(*qkv(take, batch=2, heads=2), take, backend, True, **options, text_anchors="all")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compensation_of_equal_keys_is_dense(ragged: ContextLayout, qkv: Make, backend: Any) -> None:
    """A context whose keys and values are all equal loses nothing when it is skipped."""
    q, k, v = qkv(ragged)
    first = torch.tensor(ragged.offsets)[ragged.token_contexts()]
    k, v = k.detach()[:, first], v.detach()[:, first]
    dense = routed_attention(q, k, v, ragged, route(q, k, ragged, policy="dense"))
    sparse = routed_attention(q, k, v, ragged, route(q, k, ragged, top_k=1), compensate=True, backend=backend)
    assert (dense - sparse).abs().max() <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("policy", ["window", "moc"])
def test_log_lengths_are_not_rounded_to_16_bits(qkv: Make, backend: Any, policy: Any) -> None:
    """Of 200 tokens it would be 1.6 % wrong, and most of the weight is that of skipped contexts."""
    layout = shots_of([200] * 8)
    made = qkv(layout, batch=1, heads=2, dim=64, tail=200, dtype=torch.bfloat16)
    context = made[2][:, ::200].detach().repeat_interleave(200, dim=1)  # values differ between contexts
    q, k, v = made[0].detach(), (0.1 * made[1]).detach(), context
    selection = route(q, k, layout, top_k=1, policy=policy)
    exact = reference.routed_attention(*(x.double() for x in (q, k, v)), layout, selection, compensate=True)
    out = routed_attention(q, k, v, layout, selection, compensate=True, backend=backend)
    assert (out - exact).norm() <= 0.004 * exact.norm()


def test_compensation_in_bf16(ragged: ContextLayout, qkv: Make) -> None:
    q, k, v = qkv(ragged, dtype=torch.bfloat16)
    selection = route(q, k, ragged, top_k=1)
    exact = reference.routed_attention(
        *(x.detach().double() for x in (q, k, v)), ragged, selection, compensate=True
    )
    errors = []
    for backend in BACKENDS:
        out = routed_attention(q, k, v, ragged, selection, compensate=True, backend=backend)
        errors.append(float((out.detach().double() - exact).norm()))
    assert max(errors[1:]) <= 2 * errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_window": -1}, "local_window"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"sub_descriptors": 0}, "sub_descriptors"),
    ],
)
def test_bad_options(ragged: ContextLayout, qkv: Make, options: dict[str, Any], message: str) -> None:
    q, k, _ = qkv(ragged)
    with pytest.raises(ValueError, match=message):
        route(q, k, ragged, **options)
