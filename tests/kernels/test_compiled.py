"""torch.compile takes the operators whole; activation checkpoints draw and choose the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attending import shots_of, with_gradients
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mocgen_kernels import ContextLayout, compiled, moc_attention, reference, route, routed_attention
from mocgen_kernels.rules import Routing

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
OPTIONS: list[dict[str, Any]] = [
    {"top_k": 2},
    {"top_k": 99},
    {"top_k": 2, "policy": "window"},
    {
        "top_k": 2,
        "local_window": 0,
        "first_frame": True,
        "top_p": 0.7,
        "sub_descriptors": 2,
        "compensate": True,
    },
    {"top_k": 2, "drop_off": 0.9, "drop_in": 1.0, "generator": 3},
]
STATIC: list[dict[str, Any]] = [
    {"policy": "dense"},
    {"policy": "window", "top_k": 2},
    {"policy": "first-frame"},
    {"top_k": 0},
    {"top_k": 99},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiled_equals_eager(ragged: ContextLayout, qkv: Make, options: dict[str, Any]) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return moc_attention(q * 2, k, v, ragged, **options) + 1

    torch._dynamo.reset()
    whole = torch.compile(attend, fullgraph=True, backend="aot_eager")
    results = []
    for run in (attend, whole):
        q, k, v = qkv(ragged)
        out = run(q, k, v)
        out.square().sum().backward()
        results.append([out.detach(), *(x.grad for x in (q, k, v))])
    for eager, same in zip(*results, strict=True):
        assert (eager - same).abs().max() <= 1e-4


def test_an_explicit_reference_stays_the_reference(
    ragged: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    plain = reference.routed_attention

    @torch.compiler.disable
    def watched(*arguments: Any, **options: Any) -> Tensor:
        called.append(True)
        return plain(*arguments, **options)

    monkeypatch.setattr(reference, "routed_attention", watched)
    torch._dynamo.reset()
    q, k, v = qkv(ragged)
    whole = torch.compile(moc_attention, backend="eager")
    out = whole(q, k, v, ragged, top_k=2, backend="reference")
    assert called
    assert (out - moc_attention(q, k, v, ragged, top_k=2)).abs().max() <= 1e-5


@pytest.mark.parametrize(("top_k", "way"), [(1, "visits"), (99, "masked products")])
def test_auto_takes_the_cheapest_way_in_a_graph(
    monkeypatch: pytest.MonkeyPatch, top_k: int, way: str
) -> None:
    """Forward and backward."""
    called = list[str]()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            called.append(name)
            return getattr(watched, name)

    watched = compiled._WAYS[way]
    monkeypatch.setitem(compiled._WAYS, way, Watched())
    torch._dynamo.reset()
    layout = shots_of([256] * 4)
    q, k, v = torch.randn(3, 1, 1024, 2, 64, generator=torch.Generator().manual_seed(0)).unbind()
    q.requires_grad_()
    whole = torch.compile(moc_attention, fullgraph=True, backend="aot_eager")
    out = whole(q, k, v, layout, top_k=top_k, causal=False)
    out.sum().backward()
    assert called == ["attend", "gradients"]
    expected = moc_attention(q, k, v, layout, top_k=top_k, causal=False, backend="reference")
    assert (out - expected).abs().max() <= 1e-5


def test_custom_operators_keep_the_rules_of_torch(ragged: ContextLayout, qkv: Make) -> None:
    q, k, v = qkv(ragged, batch=1, heads=2)
    routing, numbers = Routing(top_k=2), compiled.layout_numbers(ragged)
    seed = torch.tensor(0)
    torch.library.opcheck(
        compiled.route_words,
        (q, k, None, *numbers, *compiled.routing_numbers(routing), seed, False),
    )
    words = route(q, k, ragged, top_k=2).words
    means = [compiled.context_means(x, ragged).detach().requires_grad_() for x in (k, v)]
    for k_means, v_means in ((None, None), means):
        for backend in ("auto", "cpu"):
            options = compiled.routing_numbers(routing)
            arguments = (q, k, v, k_means, v_means, words, *numbers, *options, backend)
            torch.library.opcheck(compiled.attend, arguments)


@pytest.mark.parametrize("backend", ["auto", "cpu"])
@pytest.mark.parametrize("options", STATIC, ids=str)
def test_a_selection_made_outside_in_which_tokens_have_no_say(
    ragged: ContextLayout, qkv: Make, options: dict[str, Any], backend: Any
) -> None:
    selection = route(*qkv(ragged)[:2], ragged, **options)
    assert selection.words is None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return routed_attention(q, k, v, ragged, selection, backend=backend)

    torch._dynamo.reset()
    whole = torch.compile(attend, fullgraph=True, backend="aot_eager")
    made = qkv(ragged)
    for same, eager in zip(*(with_gradients(run(*made), *made) for run in (whole, attend)), strict=True):
        assert (same - eager).abs().max() <= 1e-5


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("backend", ["reference", "cpu", "auto"])
def test_activation_checkpoint(ragged: ContextLayout, qkv: Make, backend: Any, reentrant: bool) -> None:
    """With random choices: the second forward pass draws what the first one drew."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return moc_attention(q, k, v, ragged, top_k=2, drop_off=0.9, drop_in=1.0, backend=backend)

    results = []
    for again in (False, True):
        q, k, v = qkv(ragged)
        torch.manual_seed(0)
        out = checkpoint(attend, q, k, v, use_reentrant=reentrant) if again else attend(q, k, v)
        torch.rand(3)  # the generator has moved on when the second pass comes
        out.square().sum().backward()
        results.append([out.detach(), *(x.grad for x in (q, k, v))])
    for plain, same in zip(*results, strict=True):
        assert (plain - same).abs().max() <= 1e-5  # the first pass may take another exact way
