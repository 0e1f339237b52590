"""The Triton backend against the reference. On a GPU, or anywhere with TRITON_INTERPRET=1 (fp32 and fp16).

Not collected by itself: test_triton.py runs it in a process of its own, since the variable must be set before
Triton is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from attending import layouts, with_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mocgen_kernels import (
    ContextLayout,
    Kind,
    compiled,
    moc_attention,
    pool_descriptors,
    reference,
    route,
    routed_attention,
    router,
)
from mocgen_kernels._triton import (
    descriptors,
    device,
    forward,
    key_gradient,
    lists,
    overlap,
    query_gradient,
    query_major,
    query_major_gradient,
    saved,
    summary_gradient,
    tiling,
)
from mocgen_kernels._triton.lists import query_lists
from mocgen_kernels.rules import Routing
from mocgen_kernels.selection import pack_bits

triton_route = partial(route, backend="triton")
DEVICE = "cpu" if device.interpreted() else "cuda"
Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
on_gpu = pytest.mark.skipif(device.interpreted(), reason="too much, or too coarse, for the interpreter")


@pytest.fixture(autouse=True)
def empties_hold_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not written shows: NaN, or a number that is no valid index or count."""
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)

        def filled(*args: object, _make: Callable[..., Tensor] = make, **options: object) -> Tensor:
            x = _make(*args, **options)
            return x.fill_(torch.nan if x.is_floating_point() else -123_456)

        monkeypatch.setattr(torch, name, filled)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 queries and 16 keys, so that short sequences have several."""

    def small(purpose: tiling.Purpose, dtype: torch.dtype, dim: int) -> tiling.Tiling:
        return tiling.Tiling(rows=16, keys=16, warps=4, stages=1)

    for module in (
        forward,
        query_gradient,
        key_gradient,
        summary_gradient,
        query_major,
        query_major_gradient,
    ):
        monkeypatch.setattr(module, "tiling", small)


@pytest.fixture(params=["lists", "registers"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routed contexts by lists of queries; in registers, however little the queries of a tile share."""
    registers = request.param == "registers"
    monkeypatch.setattr(overlap, "DTYPES", tiling.DTYPES)
    monkeypatch.setattr(overlap, "sharing_pays", lambda done, wanted, mean: registers)
    if registers:
        monkeypatch.setattr(forward, "routed_kernel", None)
        monkeypatch.setattr(query_gradient, "routed_query_gradient_kernel", None)
    else:
        monkeypatch.setattr(query_major, "query_major_kernel", None)
        monkeypatch.setattr(query_major_gradient, "query_major_gradient_kernel", None)


@pytest.fixture(scope="module")
def uneven() -> ContextLayout:
    """Contexts of 1 to 37 tokens, shorter, longer and no multiple of any tile."""
    shots = [-1, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    video = [Kind.VIDEO] * 2
    kinds = [Kind.TEXT, Kind.TEXT, *video, Kind.TEXT, Kind.VIDEO, Kind.TEXT, *video, Kind.TEXT, Kind.VIDEO]
    return ContextLayout(lengths=[3, 1, 5, 37, 2, 1, 4, 16, 17, 2, 20], kinds=kinds, shots=shots)


def compare(
    q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, *, compensate: bool = False, **options: Any
) -> None:
    """The same choice, and output and gradients close to masked attention in fp64."""
    q, k, v = (x.detach().to(DEVICE).requires_grad_() for x in (q, k, v))
    selection = route(q, k, layout, backend="triton", **options)
    chosen = reference.route(q, k, layout, **options)
    assert torch.equal(selection.routed().to(DEVICE), chosen.routed())
    out = routed_attention(q, k, v, layout, selection, compensate=compensate, backend="triton")
    ours = with_gradients(out, q, k, v)
    precise = [x.detach().double().requires_grad_() for x in (q, k, v)]
    exact_out = reference.routed_attention(*precise, layout, chosen, compensate=compensate)
    truth = with_gradients(exact_out, *precise)
    assert {x.dtype for x in ours} == {q.dtype}
    bound = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[q.dtype]
    for mine, exact in zip(ours, truth, strict=True):
        assert (mine.double() - exact).abs().max() <= bound * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.usefixtures("small_tiles", "both_ways")
def test_uneven_layout(uneven: ContextLayout, qkv: Make, causal: bool) -> None:
    compare(*qkv(uneven, batch=1, heads=2), uneven, top_k=2, causal=causal)


@pytest.mark.usefixtures("small_tiles", "both_ways")
def test_tail_and_shared_memory(uneven: ContextLayout, qkv: Make) -> None:
    """Queries of the last two shots; batch items that share keys and values; heads of 24 dimensions."""
    q, _, _ = qkv(uneven, batch=2, heads=1, dim=24, tail=uneven.length - uneven.offsets[6])
    _, k, v = qkv(uneven, batch=1, heads=1, dim=24, seed=1)
    compare(q, k, v, uneven, top_k=1)


@pytest.mark.usefixtures("small_tiles")
def test_head_dimension_80(uneven: ContextLayout, qkv: Make) -> None:
    compare(*qkv(uneven, batch=1, heads=1, dim=80), uneven, top_k=2)


@pytest.mark.usefixtures("both_ways")
def test_half_precision_with_full_tiles(uneven: ContextLayout, qkv: Make) -> None:
    compare(*qkv(uneven, batch=1, heads=1, dim=64, dtype=torch.float16), uneven, top_k=2)


@pytest.mark.usefixtures("both_ways")
@on_gpu
@pytest.mark.parametrize("dim", [64, 80, 96, 128])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_size_with_full_tiles(uneven: ContextLayout, qkv: Make, dtype: torch.dtype, dim: int) -> None:
    compare(*qkv(uneven, dim=dim, dtype=dtype), uneven, top_k=2)


@on_gpu
@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_longer_sequence(qkv: Make, dtype: torch.dtype) -> None:
    """4000 tokens: at most twice the error of masked attention."""
    lengths, shots = [7] + [9, 300, 301, 1, 389] * 4, [-1] + [s for s in range(4) for _ in range(5)]
    kinds = [Kind.TEXT] + [Kind.TEXT, *[Kind.VIDEO] * 4] * 4
    layout = ContextLayout(lengths=lengths, kinds=kinds, shots=shots)
    made = qkv(layout, batch=1, heads=4, dim=128, dtype=dtype)
    q, k, v = (x.detach().to(DEVICE).requires_grad_() for x in made)
    selection = route(q, k, layout, top_k=3, backend="triton")
    chosen = reference.route(q, k, layout, top_k=3).routed()
    assert (selection.routed() != chosen).any(-1).float().mean() <= 1e-4
    precise = [x.detach().double().requires_grad_() for x in (q, k, v)]
    truth = with_gradients(reference.routed_attention(*precise, layout, selection), *precise)
    plain = with_gradients(reference.routed_attention(q, k, v, layout, selection), q, k, v)
    ours = with_gradients(routed_attention(q, k, v, layout, selection, backend="triton"), q, k, v)
    for mine, theirs, exact in zip(ours, plain, truth, strict=True):
        assert (mine - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.usefixtures("small_tiles", "both_ways")
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    layout=layouts(shots=4, contexts=(2, 9), longest=20),
    first=st.integers(0, 8),
    options=st.fixed_dictionaries(
        {
            "top_k": st.integers(1, 3),
            "causal": st.booleans(),
            "text_anchors": st.sampled_from(["own", "all"]),
            "local_window": st.sampled_from([None, 0, 1]),
            "top_p": st.sampled_from([1.0, 0.6]),
            "sub_descriptors": st.sampled_from([1, 2]),
            "compensate": st.booleans(),
        }
    ),
    sizes=st.sampled_from([(1, 1), (1, 2), (2, 1)]),
)
def test_random_layouts(
    qkv: Make, layout: ContextLayout, first: int, options: dict[str, Any], sizes: tuple[int, int]
) -> None:
    tail = layout.length - layout.offsets[min(first, layout.count - 1)]
    compare(*qkv(layout, batch=sizes[0], heads=sizes[1], tail=tail), layout, **options)


def test_refuses_what_it_does_not_compute(uneven: ContextLayout, qkv: Make) -> None:
    for dim, dtype, message in ((16, torch.float64, "computes in fp16"), (136, torch.float32, "up to 128")):
        q, k, v = (x.to(DEVICE) for x in qkv(uneven, dim=dim, dtype=dtype))
        with pytest.raises(ValueError, match=message):
            routed_attention(q, k, v, uneven, route(q, k, uneven, top_k=2), backend="triton")


def test_static_choice(uneven: ContextLayout, qkv: Make) -> None:
    compare(*qkv(uneven, batch=1, heads=1), uneven, top_k=99)


def test_nothing_to_choose_from(qkv: Make) -> None:
    """A single shot, also where a share of the softmax is asked for."""
    shot = ContextLayout(lengths=[2, 4], kinds=[Kind.TEXT, Kind.VIDEO], shots=[0, 0])
    compare(*qkv(shot, batch=1, heads=1, dtype=torch.float16), shot, top_p=0.9)


def test_words_with_gaps(uneven: ContextLayout, qkv: Make) -> None:
    """Of every second head."""
    q, k, v = (x.to(DEVICE) for x in qkv(uneven, batch=1, heads=4))
    selection = route(q, k, uneven, top_k=2, backend="triton")
    assert selection.words is not None
    some = replace(selection, heads=2, words=selection.words[:, ::2])
    out = routed_attention(*(x[:, :, ::2] for x in (q, k, v)), uneven, some, backend="triton")
    expected = routed_attention(q, k, v, uneven, selection, backend="triton")[:, :, ::2]
    assert torch.equal(out, expected)


@pytest.mark.usefixtures("small_tiles")
def test_drop_in_and_all_captions(uneven: ContextLayout, qkv: Make) -> None:
    q, k, v = qkv(uneven, batch=1, heads=1)
    compare(q, k, v, uneven, top_k=1, text_anchors="all", drop_in=1.0, drop_off=0.9, generator=3)


@pytest.mark.usefixtures("small_tiles", "both_ways")
def test_rows_far_apart_in_memory(uneven: ContextLayout) -> None:
    """q, k and v as slices of one projection: (B, L, 3, H, D)."""
    packed = torch.randn(1, uneven.length, 3, 2, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    selection = route(packed[:, :, 0], packed[:, :, 1], uneven, top_k=2, backend="triton")
    sliced = routed_attention(*packed.unbind(2), uneven, selection, backend="triton")
    expected = reference.routed_attention(*packed.double().unbind(2), uneven, selection)
    assert (sliced - expected).abs().max() <= 1e-5


@pytest.mark.usefixtures("small_tiles", "both_ways")
def test_large_logits_do_not_overflow(uneven: ContextLayout, qkv: Make) -> None:
    q, k, v = (x.to(DEVICE) for x in qkv(uneven, batch=1, heads=1))
    loud = [(60 * x).detach().requires_grad_() for x in (q, k)]
    selection = route(*loud, uneven, top_k=2)
    out = routed_attention(*loud, v, uneven, selection, backend="triton")
    expected = reference.routed_attention(*(x.detach().double() for x in (*loud, v)), uneven, selection)
    assert (out - expected).abs().max() <= 1e-3
    assert all(torch.isfinite(x).all() for x in with_gradients(out, *loud))


@pytest.mark.usefixtures("small_tiles", "both_ways")
def test_twice_gives_the_same_bits(uneven: ContextLayout, qkv: Make) -> None:
    q, k, v = (x.detach().to(DEVICE).requires_grad_() for x in qkv(uneven, batch=1, heads=1))
    selection = route(q, k, uneven, top_k=2)
    runs = [
        with_gradients(routed_attention(q, k, v, uneven, selection, backend="triton"), q, k, v)
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_ties_go_to_the_lower_index() -> None:
    """Descriptors of three values only, among them 0 and −0, and 40 contexts: two words of bits."""
    layout = ContextLayout(lengths=[1] * 40, kinds=[Kind.VIDEO] * 40, shots=[i // 8 for i in range(40)])
    generator = torch.Generator().manual_seed(0)
    means = torch.randint(-1, 2, (1, 40, 1, 1), generator=generator).float() * torch.ones(4)
    q = torch.tensor([1.0, -1.0, 0.0]).repeat(14)[:40].view(1, 40, 1, 1) * torch.ones(4)
    q, means = q.to(DEVICE), means.to(DEVICE)
    for top_k in (1, 7, 31):
        ours = route(q, None, layout, top_k=top_k, causal=False, descriptors=means, backend="triton")
        expected = reference.route(q, None, layout, top_k=top_k, causal=False, descriptors=means)
        assert ours.words is not None
        assert torch.equal(ours.words, expected.words)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_descriptors(uneven: ContextLayout, qkv: Make, pieces: int) -> None:
    _, k, _ = qkv(uneven, dim=24)
    k = k.to(DEVICE)
    pooled = descriptors.pool_descriptors(k, uneven, sub_descriptors=pieces)
    expected = pool_descriptors(k, uneven, sub_descriptors=pieces)
    assert (pooled - expected).abs().max() <= 1e-6


@pytest.fixture
def no_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routing in chunks, the way for what the kernel does not cover, fails."""
    monkeypatch.setattr(router, "route_by", None)


@pytest.fixture(scope="module")
def frames() -> ContextLayout:
    """40 frames of 1 to 3 tokens in eight shots: two words of bits."""
    return ContextLayout(
        lengths=[1 + i % 3 for i in range(40)], kinds=[Kind.VIDEO] * 40, shots=[i // 5 for i in range(40)]
    )


@pytest.mark.usefixtures("no_chunks")
@pytest.mark.parametrize(
    ("top_k", "top_p", "pieces", "causal"),
    [(6, 0.3, 1, True), (3, 0.6, 2, False), (99, 0.999, 3, True), (1, 0.5, 1, True), (4, 1.0, 2, True)],
)
def test_top_p_and_sub_descriptors(
    frames: ContextLayout, qkv: Make, top_k: int, top_p: float, pieces: int, causal: bool
) -> None:
    """Under the cap, at it and without one; queries without candidates, contexts shorter than pieces."""
    q, k, _ = (x.to(DEVICE) for x in qkv(frames, batch=1, heads=1))
    options: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "sub_descriptors": pieces, "causal": causal}
    ours, expected = (make(q, k, frames, **options) for make in (triton_route, reference.route))
    assert torch.equal(ours.routed(), expected.routed())


@pytest.mark.usefixtures("no_chunks")
def test_top_p_among_equal_scores(frames: ContextLayout) -> None:
    """Of n equal candidates the first ⌈p · n⌉; of two values the higher ones first."""
    q, means = torch.ones(1, frames.length, 1, 4), torch.zeros(1, 40, 1, 4)
    q, means = q[:, frames.offsets[35] :].to(DEVICE), means.to(DEVICE)  # the last shot: 35 candidates
    for top_p, count in ((0.01, 1), (0.39, 14), (0.99, 35)):
        chosen = triton_route(q, None, frames, top_k=99, top_p=top_p, descriptors=means).routed()
        assert chosen[0, 0, 0].nonzero().flatten().tolist() == list(range(count))
    means[:, [7, 33]] = 50.0
    chosen = triton_route(q, None, frames, top_k=99, top_p=0.5000001, descriptors=means).routed()
    assert chosen[0, 0, 0].nonzero().flatten().tolist() == [7, 33]


@pytest.mark.usefixtures("small_tiles", "both_ways")
@pytest.mark.parametrize("top_k", [1, 99])
def test_compensation(uneven: ContextLayout, qkv: Make, top_k: int) -> None:
    """Of a choice per token; of a table, which skips the text of other shots, with a tail of queries."""
    tail, policy = (None, "moc") if top_k == 1 else (uneven.length - uneven.offsets[6], "window")
    made = qkv(uneven, batch=1, heads=2, tail=tail)
    compare(*made, uneven, top_k=top_k, policy=policy, compensate=True)


@pytest.mark.usefixtures("small_tiles")
def test_compensation_of_two_words_of_contexts(frames: ContextLayout, qkv: Make) -> None:
    """The last shots, with keys and values that are shared; the sums over queries in several shares."""
    q, _, _ = qkv(frames, batch=2, heads=1, dtype=torch.float16, tail=frames.length - frames.offsets[25])
    _, k, v = qkv(frames, batch=1, heads=1, dtype=torch.float16, seed=1)
    compare(q, k, v, frames, top_k=2, causal=False, compensate=True)


@pytest.mark.usefixtures("small_tiles")
def test_local_window(uneven: ContextLayout, qkv: Make) -> None:
    options: dict[str, Any] = {"top_k": 2, "local_window": 0, "top_p": 0.8, "sub_descriptors": 2}
    compare(*qkv(uneven, batch=1, heads=1), uneven, **options)


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.usefixtures("small_tiles")
def test_compiled_equals_eager(uneven: ContextLayout, qkv: Make, compensate: bool) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return moc_attention(q, k, v, uneven, top_k=2, compensate=compensate, backend="triton")

    whole = torch.compile(attend, fullgraph=True, backend="aot_eager")
    made = [x.detach().to(DEVICE).requires_grad_() for x in qkv(uneven, batch=1, heads=1)]
    for eager, same in zip(*(with_gradients(run(*made), *made) for run in (attend, whole)), strict=True):
        assert torch.equal(eager, same)


@pytest.mark.parametrize("options", [{"policy": "first-frame"}, {"policy": "window", "top_k": 1}], ids=str)
@pytest.mark.usefixtures("small_tiles")
def test_compiled_for_a_selection_made_outside(
    uneven: ContextLayout, qkv: Make, options: dict[str, Any]
) -> None:
    made = [x.detach().to(DEVICE).requires_grad_() for x in qkv(uneven, batch=1, heads=1)]
    selection = triton_route(*made[:2], uneven, **options)
    assert selection.words is None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return routed_attention(q, k, v, uneven, selection, backend="triton")

    torch._dynamo.reset()
    whole = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for eager, same in zip(*(with_gradients(run(*made), *made) for run in (attend, whole)), strict=True):
        assert torch.equal(eager, same)


@pytest.mark.usefixtures("small_tiles")
def test_custom_operators_keep_the_rules_of_torch(uneven: ContextLayout, qkv: Make) -> None:
    """With compensation; heads apart in memory."""
    q, k, v = (x.transpose(1, 3).to(DEVICE) for x in qkv(uneven, batch=1, heads=2, dtype=torch.float16))
    q, k, v = (x.contiguous().detach().transpose(1, 3).requires_grad_() for x in (q, k, v))
    numbers = (*compiled.layout_numbers(uneven), *compiled.routing_numbers(Routing(top_k=2)))
    seed = torch.tensor(0)
    torch.library.opcheck(compiled.route_words, (q, k, None, *numbers, seed, True))
    words = triton_route(q, k, uneven, top_k=2).words
    means = [compiled.context_means(x, uneven).detach().requires_grad_() for x in (k, v)]
    torch.library.opcheck(compiled.attend, (q, k, v, *means, words, *numbers, "triton"))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.usefixtures("small_tiles")
def test_activation_checkpoint(uneven: ContextLayout, qkv: Make, reentrant: bool) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return moc_attention(q, k, v, uneven, top_k=2, drop_off=0.9, drop_in=1.0, backend="triton")

    made = [x.detach().to(DEVICE).requires_grad_() for x in qkv(uneven, batch=1, heads=1)]
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        out = checkpoint(attend, *made, use_reentrant=reentrant) if again else attend(*made)
        torch.rand(3)  # the generator has moved on when the second pass comes
        for x in made:
            x.grad = None
        out.sum().backward()
        results.append([out.detach(), *(x.grad for x in made)])
    assert all(torch.equal(plain, same) for plain, same in zip(*results, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_lists_hold_every_visitor_in_order(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(lists, "_BLOCK", 32)
    bits = torch.rand(2, 75, 40, generator=torch.Generator().manual_seed(0)) < share  # (n, Lq, C)
    built = query_lists(pack_bits(bits).to(DEVICE), 40)
    begins = built.begins.tolist()
    found = [built.queries[a:b].tolist() for a, b in pairwise(begins)]
    assert found == [bits[n, :, c].nonzero().flatten().tolist() for n in range(2) for c in range(40)]
    assert built.most == tuple(bits.sum(dim=1).amax(dim=0).tolist())


@pytest.mark.usefixtures("small_tiles", "both_ways")
@pytest.mark.parametrize("top_k", [1, 99])
def test_heads_in_blocks(
    uneven: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch, top_k: int
) -> None:
    """Of six heads of two batch items four at a time, and one."""
    for most in (4, 1):
        monkeypatch.setattr(lists, "_MOST_PAIRS", most)
        compare(*qkv(uneven, batch=2, heads=3), uneven, top_k=top_k, compensate=most == 4)


def test_queries_are_sorted_within_their_groups() -> None:
    """By their highest context first, equal ones as they come; two words, the sign bit among them."""
    contexts = [[0], [31], [33], [0], [31, 0], [35], [2], [35]]
    bits = torch.zeros(1, 8, 40, dtype=torch.bool)
    for query, chosen in enumerate(contexts):
        bits[0, query, chosen] = True
    tiles = torch.tensor([[0, 6, 0], [4, 6, 0], [6, 8, 1]])
    order = overlap.sorted_queries(pack_bits(bits), tiles, 4)
    assert order.tolist() == [[0, 3, 1, 4, 2, 5, 6, 7]]


@pytest.mark.parametrize("sample", [1, 2])
def test_unions_and_their_work(
    uneven: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    """Of two heads, judged by the first alone and by both."""
    seen = list[float]()
    monkeypatch.setattr(overlap, "SAMPLE", sample)
    monkeypatch.setattr(overlap, "DTYPES", tiling.DTYPES)
    monkeypatch.setattr(overlap, "sharing_pays", lambda *numbers: seen.extend(numbers) or True)
    q, k, v = (x.to(DEVICE) for x in qkv(uneven, batch=1, heads=2))
    selection = route(q, k, uneven, top_k=2)
    inputs = saved.Inputs(q=q, k=k, v=v, k_means=None, v_means=None, selection=selection)
    plan = inputs.plan(tiling.Tiling(rows=16, keys=16, warps=4, stages=1))
    shared = overlap.overlap(inputs, plan, 0, 2, 16)
    assert shared is not None
    routed, lengths = selection.routed()[0], torch.tensor(uneven.lengths, device=DEVICE)  # (2, Lq, C)
    done = 0
    for number, (start, stop, _) in enumerate(plan.query_tiles.tolist()):
        rows = shared.order[:, start : min(start + 16, stop)].long()
        unions = torch.stack([routed[pair, rows[pair]].any(0) for pair in range(2)])
        assert torch.equal(shared.unions[:, number], pack_bits(unions))
        done += int((unions[:sample] * lengths).sum()) * 16
    candidates = selection.candidate_table.any(0)
    mean = float(lengths.cpu()[candidates].double().mean())
    assert seen == [done, int((routed[:sample] * lengths).sum()), mean]


def test_long_contexts_go_by_lists(uneven: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_major, "query_major_kernel", None)
    monkeypatch.setattr(overlap, "LONGEST", 0)
    compare(*qkv(uneven, batch=1, heads=1, dtype=torch.float16), uneven, top_k=2)
    assert overlap.sharing_pays(2.0, 1.0, 256.0)
    assert not overlap.sharing_pays(2.1, 1.0, 256.0)
