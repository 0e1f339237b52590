"""The ways for short sequences against masked attention, forward and gradients, and which one is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attending import VISITS, WAYS, by_way, errors, layouts, masked_attention, shots_of, with_gradients
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from mocgen_kernels import (
    ContextLayout,
    Kind,
    attention_info,
    chunks,
    masked,
    parts,
    route,
    routed_attention,
    visits,
)

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [0, 9])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_masked(
    ragged: ContextLayout, qkv: Make, dtype: torch.dtype, batch: int, causal: bool, first: int, way: str
) -> None:
    q, k, v = qkv(ragged, batch=batch, tail=ragged.length - ragged.offsets[first], dtype=dtype)
    selection = route(q, k, ragged, top_k=2, causal=causal)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = by_way(way, q, k, v, selection)
    assert max(errors(actual, expected)) <= 1e-5


@given(
    way=st.sampled_from(list(WAYS)),
    layout=layouts(),
    copies=st.sampled_from([1, 3]),
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    top_k=st.integers(1, 5),
    causal=st.booleans(),
    first=st.integers(0, 40),
)
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
def test_equals_masked_in_any_layout(
    way: str,
    layout: ContextLayout,
    copies: int,
    batch: int,
    heads: int,
    top_k: int,
    causal: bool,
    first: int,
) -> None:
    """Contexts of all lengths, up to 48 of them, tails; the same bits twice."""
    layout = ContextLayout(
        lengths=layout.lengths * copies,
        kinds=[Kind.VIDEO if s >= 0 else Kind.TEXT for s in sorted(layout.shots * copies)],
        shots=sorted(layout.shots * copies),
    )
    start = layout.offsets[min(first, layout.count - 1)]
    generator = torch.Generator().manual_seed(layout.length)
    q, k, v = torch.randn(3, batch, layout.length, heads, 8, generator=generator).unbind()
    q, k, v = q[:, start:].clone().requires_grad_(), k.requires_grad_(), v.requires_grad_()
    selection = route(q, k, layout, top_k=top_k, causal=causal, drop_in=0.01, generator=1)
    assume(selection.words is not None)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    twice = [by_way(way, q, k, v, selection) for _ in range(2)]
    assert max(errors(twice[0], expected)) <= 2e-5
    assert max(errors(*twice)) == 0.0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_error_of_16_bits_against_fp64(
    ragged: ContextLayout, qkv: Make, dtype: torch.dtype, way: str
) -> None:
    q, k, v = qkv(ragged, dim=64, dtype=dtype)
    selection = route(q, k, ragged, top_k=2)
    precise = [x.detach().double().requires_grad_() for x in (q, k, v)]
    truth = with_gradients(masked_attention(*precise, selection.dense_mask()), *precise)
    plain = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    ours = by_way(way, q, k, v, selection)
    assert {x.dtype for x in ours} == {dtype}
    for mine, theirs, exact in zip(ours, plain, truth, strict=True):
        assert (mine - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loudness", [1.0, 60.0])
def test_any_strides_and_shared_keys(ragged: ContextLayout, qkv: Make, loudness: float, way: str) -> None:
    """q as transposed (B, L, D, H), k and v of one batch item for three; large logits as well."""
    q, _, _ = qkv(ragged, batch=3)
    _, k, v = qkv(ragged, batch=1, seed=1)
    q, k = ((loudness * x).detach().requires_grad_() for x in (q, k))
    selection = route(q, k, ragged, top_k=2)
    wide = [x.expand(3, -1, -1, -1) for x in (k, v)]
    expected = with_gradients(masked_attention(q, *wide, selection.dense_mask()), q, k, v)
    strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (q, k, v)]
    keys = [x.expand(3, -1, -1, -1) for x in strided[1:]]
    actual = by_way(way, strided[0], *keys, selection, q, k, v)
    for error, truth in zip(errors(actual, expected), expected, strict=True):
        assert error <= (1e-5 if loudness == 1 else 1e-3) * max(1.0, float(truth.abs().max()))


@pytest.mark.parametrize("way", WAYS)
def test_contexts_that_nobody_attends_to(qkv: Make, way: str) -> None:
    """A first query context beyond them and a budget of one leave contexts without queries."""
    layout = shots_of([5, 7, 5, 5, 7, 5])
    q, k, v = qkv(layout, tail=5)
    selection = route(q, k, layout, top_k=1)
    assert not selection.dense_mask().any(dim=2).all()
    with torch.no_grad():
        k[:, :29] *= 3.0  # what is unseen must not matter
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = by_way(way, q, k, v, selection)
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("way", [*VISITS, "masked products"])
@pytest.mark.parametrize("most", [1, 60, 1000])
def test_few_logits_at_a_time(
    ragged: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch, most: int, way: str
) -> None:
    """Down to fewer than one query has."""
    for module in (parts, masked, visits, chunks):
        monkeypatch.setattr(module, "MOST_LOGITS", most)
    q, k, v = qkv(ragged)
    selection = route(q, k, ragged, top_k=2)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = by_way(way, q, k, v, selection)
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("far", [90.0, 1000.0])
def test_masked_logits_far_above_the_others(qkv: Make, far: float) -> None:
    """exp of what is masked overflows, and 0 times infinity is no number."""
    layout = shots_of([5, 7, 5, 5, 7, 5])
    q, k, v = qkv(layout, batch=1)
    selection = route(q, k, layout, top_k=1, causal=False)
    with torch.no_grad():
        q[..., 0] = 4.0
        k[:, layout.offsets[2] : layout.offsets[3], :, 0] = far
    hidden = ~selection.dense_mask()[..., layout.offsets[2]]  # (B, H, Lq)
    assert hidden.any()
    assert not hidden.all()
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = with_gradients(masked.routed_attention(q, k, v, selection), q, k, v)
    assert max(errors(actual, expected)) <= 2e-5 * far


def test_the_cheapest_way_is_taken() -> None:
    """Few of long contexts: visits; most of them, or short ones: masked."""
    products = "masked products"
    for tokens, count, top_k, way in ((256, 4, 1, "visits"), (64, 16, 13, products), (16, 32, 16, products)):
        layout = shots_of([tokens] * count)
        q, k, v = torch.randn(3, 1, layout.length, 2, 64, generator=torch.Generator().manual_seed(0))
        selection = route(q, k, layout, top_k=top_k, causal=False)
        assert attention_info(selection, q).method == way
        outs = [routed_attention(q, k, v, layout, selection, backend=b) for b in ("auto", "reference")]
        assert (outs[0] - outs[1]).abs().max() <= 1e-5
