"""routed_attention: every backend against masked attention, forward and gradients."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from attending import errors, fused_attention, layouts, masked_attention, with_gradients
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from mocgen_kernels import (
    ContextLayout,
    Kind,
    attention_info,
    blocks,
    chunks,
    moc_attention,
    reference,
    route,
    routed_attention,
)
from mocgen_kernels.rules import Routing, anchor_table

BACKENDS = ("reference", "cpu", "auto")
Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("top_k", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 9, 17])
def test_sparse_equals_masked(
    ragged: ContextLayout, qkv: Make, backend: str, causal: bool, top_k: int, first: int
) -> None:
    q, k, v = qkv(ragged, tail=ragged.length - ragged.offsets[first])
    selection = route(q, k, ragged, top_k=top_k, causal=causal)
    assert selection.density() < 0.8
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = with_gradients(routed_attention(q, k, v, ragged, selection, backend=backend), q, k, v)
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("causal", [True, False])
def test_top_k_of_all_candidates_equals_dense(
    ragged: ContextLayout, qkv: Make, backend: str, causal: bool
) -> None:
    q, k, v = qkv(ragged)
    selection = route(q, k, ragged, top_k=ragged.count, causal=causal, backend=backend)
    assert torch.equal(
        selection.dense_mask(), route(q, k, ragged, policy="dense", causal=causal).dense_mask()
    )
    assert selection.density("causal") == 1.0
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = with_gradients(routed_attention(q, k, v, ragged, selection, backend=backend), q, k, v)
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("policy", ["dense", "window", "first-frame", "random"])
def test_baselines_equal_masked(ragged: ContextLayout, qkv: Make, backend: str, policy: str) -> None:
    q, k, v = qkv(ragged)
    selection = route(q, k, ragged, top_k=2, policy=policy, generator=0)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    actual = with_gradients(routed_attention(q, k, v, ragged, selection, backend=backend), q, k, v)
    assert max(errors(actual, expected)) <= 1e-5


@given(
    layout=layouts(),
    backend=st.sampled_from(BACKENDS),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    dim=st.sampled_from([1, 8, 24]),
    options=st.fixed_dictionaries(
        {
            "top_k": st.integers(0, 5),
            "causal": st.booleans(),
            "text_anchors": st.sampled_from(["own", "all"]),
            "local_window": st.sampled_from([None, 0, 1, 2]),
            "first_frame": st.booleans(),
            "top_p": st.sampled_from([1.0, 0.6]),
            "sub_descriptors": st.sampled_from([1, 2]),
            "drop_in": st.sampled_from([0.0, 1.0]),
        }
    ),
    compensate=st.booleans(),
    first=st.integers(0, 15),
)
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_any_layout_equals_masked(
    layout: ContextLayout,
    backend: str,
    batch: int,
    heads: int,
    dim: int,
    options: dict[str, Any],
    compensate: bool,
    first: int,
) -> None:
    start = layout.offsets[min(first, layout.count - 1)]
    generator = torch.Generator().manual_seed(layout.length)
    shape = (batch, layout.length, heads, dim)
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    q, k, v = q[:, start:].clone().requires_grad_(), k.requires_grad_(), v.requires_grad_()
    selection = route(q, k, layout, **options, generator=1)
    if compensate:
        truth = reference.routed_attention(q, k, v, layout, selection, compensate=True)
    else:
        truth = masked_attention(q, k, v, selection.dense_mask())
    out = routed_attention(q, k, v, layout, selection, compensate=compensate, backend=backend)
    actual, expected = (with_gradients(x, q, k, v) for x in (out, truth))
    assert max(errors(actual, expected)) <= 5e-5


@given(
    layout=layouts(shots=2, contexts=(2, 6), longest=2),
    rules=st.fixed_dictionaries(
        {
            "causal": st.booleans(),
            "text_anchors": st.sampled_from(["own", "all"]),
            "local_window": st.sampled_from([None, 0, 1, 2]),
            "first_frame": st.booleans(),
        }
    ),
    begin=st.integers(0, 5),
)
@hypothesis_settings(max_examples=1000, deadline=None, derandomize=True)
def test_batches_of_anchors_are_the_anchors(layout: ContextLayout, rules: dict[str, Any], begin: int) -> None:
    """Every pair once: of queries from `begin` on, which a chunk may begin with."""
    routing, begin = Routing(**rules), min(begin, layout.length - 1)
    contexts = layout.token_contexts()
    expected = anchor_table(layout, 0, routing)[contexts][:, contexts]  # (L, L)
    seen = torch.zeros(layout.length - begin, layout.length, dtype=torch.int64)
    for some in chunks._anchors(layout, 0, routing, begin, layout.length):
        queries = torch.arange(len(seen))[some.rows].view(some.groups, -1)
        own = torch.arange(layout.length)[some.own].view(some.groups, -1)
        seen[queries[:, :, None], own[:, None]] += 1
        for other in some.others:
            seen[some.rows, other] += 1
    assert torch.equal(seen, expected[begin:].long())


@pytest.mark.parametrize(
    ("lengths", "shots", "options"),
    [
        ([4, 4, 4], [0, 0, 1], {"local_window": 0}),
        ([4, 2, 2], [0, 0, 0], {"local_window": 1}),
        ([64] * 6, [0, 0, 0, 1, 1, 1], {"local_window": 1, "top_k": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("compensate", [False, True])
def test_anchors_that_overlap(
    qkv: Make, lengths: list[int], shots: list[int], options: dict[str, Any], compensate: bool
) -> None:
    """Neighbouring groups of queries whose own anchors overlap are not one batch."""
    kinds = [Kind.TEXT if i % 3 == 1 else Kind.VIDEO for i in range(len(lengths))]
    layout = ContextLayout(lengths=lengths, kinds=kinds, shots=shots)
    q, k, v = qkv(layout, batch=1, heads=1)
    selection = route(q, k, layout, **{"top_k": 1, **options}, top_p=0.5)
    truth, out = (
        routed_attention(q, k, v, layout, selection, compensate=compensate, backend=backend)
        for backend in ("reference", "cpu")
    )
    assert max(errors(*(with_gradients(x, q, k, v) for x in (out, truth)))) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("top_k", [2, 99])
@pytest.mark.parametrize("loud", [1.0, 4.0])
def test_error_against_fp64(
    ragged: ContextLayout, qkv: Make, backend: str, dtype: torch.dtype, top_k: int, loud: float
) -> None:
    """At most twice the error (RMS) of torch's masked attention in that dtype, in output and gradients."""
    q, k, v = qkv(ragged, dim=64, dtype=dtype)
    q = (q.detach() * loud).requires_grad_()
    selection = route(q, k, ragged, top_k=top_k)
    precise = [x.detach().double().requires_grad_() for x in (q, k, v)]
    truth = with_gradients(masked_attention(*precise, selection.dense_mask()), *precise)
    plain = with_gradients(fused_attention(q, k, v, selection.dense_mask()), q, k, v)
    ours = with_gradients(routed_attention(q, k, v, ragged, selection, backend=backend), q, k, v)
    assert {x.dtype for x in ours} == {dtype}
    for mine, theirs, exact in zip(ours, plain, truth, strict=True):
        assert (mine - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.parametrize("backend", ["cpu", "auto"])
def test_gradcheck(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = (x.detach().double().requires_grad_() for x in qkv(ragged, batch=1, heads=2, dim=3))
    selection = route(q, k, ragged, top_k=2)
    assert torch.autograd.gradcheck(
        lambda *x: routed_attention(*x, ragged, selection, backend=backend), (q, k, v), fast_mode=True
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_logits_do_not_overflow(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(ragged)
    selection = route(q, k, ragged, top_k=2)
    loud = [(60 * x).detach().requires_grad_() for x in (q, k)] + [v]
    expected = with_gradients(masked_attention(*loud, selection.dense_mask()), *loud)
    actual = with_gradients(routed_attention(*loud, ragged, selection, backend=backend), *loud)
    assert all(torch.isfinite(x).all() for x in actual)
    for error, truth in zip(errors(actual, expected), expected, strict=True):
        assert error <= 1e-3 * max(1.0, float(truth.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_skipped_tokens_have_no_influence(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(ragged, batch=1, heads=1)
    selection = route(q, k, ragged, top_k=1)
    query = ragged.length - 1
    unseen = ~selection.dense_mask()[0, 0, query]  # (L,)
    assert unseen.any()
    out = routed_attention(q, k, v, ragged, selection, backend=backend)[0, query]
    for x in torch.autograd.grad(out.sum(), (k, v)):
        assert not x[0, unseen].any()
        assert x[0, ~unseen].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_memory_of_batch_one(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, _, _ = qkv(ragged, batch=3)
    _, k, v = qkv(ragged, batch=1, seed=1)
    wide = [x.detach().expand(3, -1, -1, -1).clone().requires_grad_() for x in (k, v)]
    shared = moc_attention(q, k, v, ragged, top_k=2, backend=backend)
    copied = moc_attention(q, *wide, ragged, top_k=2, backend=backend)
    actual, expected = with_gradients(shared, q, k, v), with_gradients(copied, q, *wide)
    expected[2:] = [x.sum(0, keepdim=True) for x in expected[2:]]
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_moc_attention_is_route_then_attend(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(ragged)
    whole = moc_attention(q, k, v, ragged, top_k=2, drop_in=1.0, generator=3, backend=backend)
    selection = route(q, k, ragged, top_k=2, drop_in=1.0, generator=3, backend=backend)
    assert torch.equal(whole, routed_attention(q, k, v, ragged, selection, backend=backend))
    specified = reference.moc_attention(q, k, v, ragged, top_k=2, drop_in=1.0, generator=3)
    assert (whole - specified).abs().max() <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_and_no_grad(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(ragged)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = moc_attention(q, k, v.bfloat16(), ragged, top_k=2, backend=backend)
        selection = route(q, k, ragged, top_k=2, backend=backend)
    assert torch.equal(selection.routed(), route(q, k, ragged, top_k=2).routed())  # scored in fp32
    assert out.dtype is torch.bfloat16
    grads = torch.autograd.grad(out.float().sum(), (q, k))
    assert all(g.dtype is torch.float32 and torch.isfinite(g).all() for g in grads)
    with torch.no_grad():
        plain = moc_attention(q, k, v, ragged, top_k=2, backend=backend)
    assert not plain.requires_grad
    assert (plain - out).abs().max() < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_activation_checkpointing_draws_the_same(ragged: ContextLayout, qkv: Make, backend: str) -> None:
    q, k, v = qkv(ragged)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return moc_attention(q, k, v, ragged, top_k=2, drop_off=0.9, drop_in=1.0, backend=backend)

    torch.manual_seed(0)
    expected = with_gradients(attend(q, k, v), q, k, v)
    torch.manual_seed(0)
    out = torch.utils.checkpoint.checkpoint(attend, q, k, v, use_reentrant=False)
    worst = max(errors(with_gradients(out, q, k, v), expected))
    assert worst <= 1e-6  # other choices would make it far larger than the last bit


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ours", [True, False])
def test_threads_and_inference_mode(
    ragged: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch, ours: bool, threads: int
) -> None:
    if ours:
        monkeypatch.setattr(blocks, "_WORTH_OURS", 0)
    q, k, v = qkv(ragged)
    selection = route(q, k, ragged, top_k=2)
    expected = with_gradients(masked_attention(q, k, v, selection.dense_mask()), q, k, v)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        actual = with_gradients(routed_attention(q, k, v, ragged, selection, backend="cpu"), q, k, v)
        with torch.inference_mode():
            out = moc_attention(q, k, v, ragged, top_k=2, backend="cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert max(errors(actual, expected)) <= 1e-5
    assert max(errors([out], expected[:1])) <= 1e-5


def test_our_threads_share_those_of_torch() -> None:
    """From their first operation on."""
    before, counts = torch.get_num_threads(), list[int]()

    def work(_: int) -> None:
        torch.zeros(1 << 17).add_(1)
        counts.append(torch.get_num_threads())

    blocks._pool.cache_clear()
    try:
        torch.set_num_threads(4)
        blocks.for_each(range(2), work)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
        blocks._pool.cache_clear()
    assert counts == [2, 2]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"compensate": True}, {"top_p": 0.7, "sub_descriptors": 2}])
def test_gradients_after_inference(
    ragged: ContextLayout, qkv: Make, backend: str, options: dict[str, Any]
) -> None:
    """What is kept from call to call, in a thread that has nothing yet, serves both."""
    q, k, v = qkv(ragged)
    settings = {"top_k": 2, "backend": backend, **options}

    def run() -> list[Tensor]:
        torch.set_num_threads(1)
        with torch.inference_mode():
            moc_attention(q, k, v, ragged, **settings)
        return with_gradients(moc_attention(q, k, v, ragged, **settings), q, k, v)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            actual = pool.submit(run).result()
    finally:
        torch.set_num_threads(before)  # torch hands the latest setting to threads that start later
    expected = with_gradients(reference.moc_attention(q, k, v, ragged, top_k=2, **options), q, k, v)
    assert max(errors(actual, expected)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compensate", [False, True])
def test_dimensions_that_are_not_neighbours_in_memory(
    ragged: ContextLayout, backend: str, compensate: bool
) -> None:
    """q, k and v as transposed (B, L, D, H)."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, ragged.length, 16, 2)
    q, k, v = (torch.randn(shape, generator=generator).transpose(2, 3).requires_grad_() for _ in range(3))
    selection = route(q, k, ragged, top_k=2)
    results = []
    for x in ((q, k, v), tuple(x.detach().contiguous().requires_grad_() for x in (q, k, v))):
        kind = backend if x[0] is q else "reference"
        out = routed_attention(*x, ragged, selection, compensate=compensate, backend=kind)
        results.append(with_gradients(out, *x))
    assert max(errors(*results)) <= 1e-5


def test_auto_takes_the_cheaper_way() -> None:
    """Masked products for a short sequence, visits for a long one; the same result either way."""
    for tokens, method in ((4, "masked products"), (256, "visits")):
        kinds, shots = [Kind.VIDEO] * 24, [i // 2 for i in range(24)]
        layout = ContextLayout(lengths=[tokens] * 24, kinds=kinds, shots=shots)
        q, k, v = torch.randn(3, 1, layout.length, 2, 16, generator=torch.Generator().manual_seed(0))
        selection = route(q, k, layout, top_k=3)
        info = attention_info(selection, q)
        assert info.method == method
        assert method in info.reason
        assert attention_info(selection, q, backend="cpu").method == "visits"
        outs = [routed_attention(q, k, v, layout, selection, backend=b) for b in ("auto", "reference")]
        assert (outs[0] - outs[1]).abs().max() <= 1e-5
