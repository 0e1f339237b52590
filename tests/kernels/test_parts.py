"""Parts of a softmax relative to references: what happens far away from them, in blocks and in groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attending import VISITS, WAYS, by_way, shots_of
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, cpu, parts, route, routed_attention
from mocgen_kernels.key_order import KeyOrder
from mocgen_kernels.selection import pack_bits
from mocgen_kernels.visits import Visits

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


def with_gradients(q: Tensor, k: Tensor, v: Tensor, layout: ContextLayout, way: str) -> list[Tensor]:
    """Output and gradients with two routed contexts per query, the choice of the 32-bit reference.

    way: a backend, or one of `WAYS`.
    """
    selection = route(q.float(), k.float(), layout, top_k=2, causal=False, backend="reference")
    if way in WAYS:
        return by_way(way, q, k, v, selection)
    out = routed_attention(q, k, v, layout, selection, backend=way)  # type: ignore[arg-type]
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), upstream)]


@pytest.mark.parametrize("way", [*VISITS, "masked products"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("lift", "lifted", "far"),
    [(30.0, slice(1, 3), False), (300.0, slice(1, 3), True), (-300.0, slice(1, 3), False),
     (-300.0, slice(0, 7), True), (30.0, slice(0, 7), False), (300.0, slice(0, 7), True)],
)  # fmt: skip
def test_logits_far_from_0(
    qkv: Make,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    lift: float,
    lifted: slice,
    far: bool,
    way: str,
) -> None:
    """Logits of some shots' keys are lifted: others meet them as routed contexts, as they meet others."""
    raised = list[int]()
    spied = cpu._peaks
    monkeypatch.setattr(cpu, "_peaks", lambda *args: (raised.append(1), spied(*args))[1])
    layout = shots_of([40, 64, 50, 40, 64, 50, 300])
    q, k, v = qkv(layout, batch=1, heads=2, dim=16, dtype=dtype)
    with torch.no_grad():
        q[..., 0] = 4.0
        k[:, layout.offsets[lifted.start] : layout.offsets[lifted.stop], :, 0] = lift
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    truth = with_gradients(*exact, layout, "reference")
    plain = with_gradients(q, k, v, layout, "reference")
    ours = with_gradients(q, k, v, layout, way)
    assert bool(raised) == (far and way.startswith("visits"))
    for mine, theirs, right in zip(ours, plain, truth, strict=True):
        assert (mine - right).norm() <= 2 * (theirs - right).norm() + 1e-6 * right.norm()


@pytest.mark.parametrize("way", VISITS)
@pytest.mark.parametrize("loudness", [1.0, 8.0])
def test_keys_in_blocks(qkv: Make, monkeypatch: pytest.MonkeyPatch, loudness: float, way: str) -> None:
    monkeypatch.setattr(parts, "MOST_LOGITS", 200)
    layout = shots_of([30, 41, 9, 1, 30, 17])
    q, k, v = ((loudness * x).detach().requires_grad_() for x in qkv(layout, batch=1))
    expected, actual = (with_gradients(q, k, v, layout, backend) for backend in ("reference", way))
    for mine, right in zip(actual, expected, strict=True):
        assert (mine - right).abs().max() <= 2e-5 * max(1.0, float(right.abs().max()))


@pytest.mark.parametrize("loudness", [1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_shots_are_worked_on_together(
    qkv: Make, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, loudness: float
) -> None:
    """Shots of a caption and a frame; the prompt joins the anchors of the first, the last is shorter."""
    groups = list[int]()
    spied = parts.in_groups

    def note(x: Tensor, rows: slice | Tensor, count: int) -> Tensor:
        groups.append(count)
        return spied(x, rows, count)

    monkeypatch.setattr(parts, "in_groups", note)
    layout = ContextLayout(
        lengths=[5, *[3, 16] * 4, 3, 9],
        kinds=[Kind.TEXT, *[Kind.TEXT, Kind.VIDEO] * 5],
        shots=[-1, *(shot for shot in range(5) for _ in range(2))],
    )
    q, k, v = ((loudness * x).to(dtype).detach().requires_grad_() for x in qkv(layout, batch=1))
    ways = ("reference", "visits, head by head")
    expected, actual = (with_gradients(q, k, v, layout, way) for way in ways)
    assert 3 in groups
    for mine, right in zip(actual, expected, strict=True):
        tolerance = 1e-5 if dtype is torch.float32 else 1e-2
        assert (mine - right).abs().max() <= tolerance * max(1.0, float(right.abs().max()))


@pytest.mark.parametrize("loudness", [1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_strides(qkv: Make, dtype: torch.dtype, loudness: float) -> None:
    """q, k and v as transposed (B, L, D, H)."""
    layout = shots_of([30, 41, 9, 1, 30, 17])
    rows = [(loudness * x).to(dtype).detach() for x in qkv(layout)]
    columns = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in rows]
    expected, actual = (
        with_gradients(*(x.requires_grad_() for x in some), layout, "cpu") for some in (rows, columns)
    )
    for mine, right in zip(actual, expected, strict=True):
        assert (mine - right).abs().max() <= 1e-5 * max(1.0, float(right.abs().max()))


@pytest.mark.parametrize("count", [1, 8, 31, 32, 33, 70])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("heads", [1, 6])
def test_visits_are_the_bits_turned_around(count: int, share: float, heads: int) -> None:
    generator = torch.Generator().manual_seed(count)
    shape = (heads // 2 or 1, min(heads, 2), 50, count)  # b, h, Q, C
    chosen = torch.rand(shape, generator=generator) < share
    layout = shots_of([1 + i % 3 // 2 for i in range(count)])
    keys, words = KeyOrder.of(layout, heads), pack_bits(chosen)
    visits = Visits.of(words[0, 0], keys) if heads == 1 else Visits.of_all(words, keys)
    rows, items = chosen.transpose(1, 2).flatten(0, 2), len(chosen)  # (N, C), in the order b, Q, h
    owners = torch.arange(heads).view(items, 1, -1).expand(-1, 50, -1).flatten()  # (N,)
    firsts = torch.arange(heads).view(items, 1, -1, 1) * layout.length
    tokens = keys.rows(firsts + torch.arange(layout.length)[:, None, None])[:, 0]
    seen = torch.zeros_like(rows)
    table = torch.randn(visits.others + len(visits.visitors), 3, generator=generator)
    if heads > 1:
        table[0] = 0
    sums = table[: visits.others].expand(len(rows), 3).clone()
    for batch in visits.batches:
        places = torch.arange(batch.slots.start, batch.slots.stop) + visits.others
        columns = (tokens[batch.keys], visits.visitors[batch.slots], places)
        for some, visitors, place in zip(*(x.view(batch.groups, -1) for x in columns), strict=True):
            head, token = divmod(int(some[0]), layout.length)
            context, real = int(layout.token_contexts()[token]), visitors < len(rows)
            assert len(some) == layout.lengths[context]
            assert torch.equal(visitors[real], (rows[:, context] & (owners == head)).nonzero().flatten())
            assert bool((visitors[~real] == len(rows)).all())
            seen[visitors[real], context] = True
            sums.index_add_(0, visitors[real], table[place[real]])
    assert torch.equal(seen, rows)
    assert torch.allclose(visits.sums(table), sums, atol=1e-5)
