"""The public operators: what they refuse, and that an explicit backend never falls back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind, moc_attention, route, routed_attention
from mocgen_kernels.rules import Routing

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


def test_triton_refuses_the_cpu(ragged: ContextLayout, qkv: Make) -> None:
    pytest.importorskip("triton")
    q, k, v = qkv(ragged)
    with pytest.raises(ValueError, match="needs tensors on a CUDA device"):
        route(q, k, ragged, backend="triton")
    with pytest.raises(ValueError, match="needs tensors on a CUDA device"):
        routed_attention(q, k, v, ragged, route(q, k, ragged), backend="triton")


def test_triton_says_that_it_is_missing(
    ragged: ContextLayout, qkv: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mocgen_kernels.ops.find_spec", lambda name: None)
    q, k, v = qkv(ragged)
    with pytest.raises(NotImplementedError, match="needs the package triton"):
        moc_attention(q, k, v, ragged, backend="triton")
    assert moc_attention(q, k, v, ragged).isfinite().all()


def test_cpu_backend_refuses_other_devices(ragged: ContextLayout, qkv: Make) -> None:
    q, k, v = (x.to("meta") for x in qkv(ragged))
    with pytest.raises(ValueError, match="needs tensors on the CPU"):
        moc_attention(q, k, v, ragged, backend="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": -1}, "top_k"),
        ({"policy": "best"}, "policy must be one of moc, dense"),
        ({"text_anchors": "none"}, "text_anchors"),
        ({"drop_off": 1.5}, "drop_off"),
        ({"drop_in": -0.1}, "drop_in"),
        ({"drop_in": 1e4}, "drop_in"),
        ({"drop_in": float("nan")}, "drop_in"),
        ({"top_k": 1.5}, "whole number"),
        ({"sub_descriptors": 2.0}, "whole number"),
        ({"backend": "gpu"}, "backend must be one of"),
    ],
)
def test_refuses_options(
    ragged: ContextLayout, qkv: Make, options: dict[str, float | str], message: str
) -> None:
    q, k, v = qkv(ragged)
    with pytest.raises(ValueError, match=message):
        moc_attention(q, k, v, ragged, **options)


def test_refuses_shapes(ragged: ContextLayout, qkv: Make) -> None:
    q, k, v = qkv(ragged)
    with pytest.raises(ValueError, match="context boundary"):
        route(q[:, 1:], k, ragged)
    with pytest.raises(ValueError, match="k must be"):
        route(q, k[:, 1:], ragged)
    with pytest.raises(ValueError, match="k must be"):
        route(q, k[..., :2, :], ragged)
    with pytest.raises(ValueError, match="q must be"):
        route(q[0], k, ragged)
    with pytest.raises(ValueError, match="descriptors must be"):
        route(q, k, ragged, descriptors=k)
    selection = route(q, k, ragged)
    with pytest.raises(ValueError, match="v must be"):
        routed_attention(q, k, v[..., :8], ragged, selection)
    with pytest.raises(ValueError, match="the selection is of"):
        routed_attention(q[:1], k, v, ragged, selection)
    for some in (route(q[:, :, :1], k[:, :, :1], ragged), route(q[:, :, :1], None, ragged, policy="dense")):
        with pytest.raises(ValueError, match="the selection is of"):
            routed_attention(q, k, v, ragged, some)
    for empty in (q[:0], q[:, :, :0], q[..., :0], q[0], q[0, 0, 0, 0]):
        with pytest.raises(ValueError, match="q must be"):
            route(empty, k, ragged)
    for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match="floating point"):
            route(q.to(dtype), k.to(dtype), ragged)
    with pytest.raises(ValueError, match="one dtype"):
        routed_attention(q, k.bfloat16(), v, ragged, selection)


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
@pytest.mark.parametrize(
    "options", [{"top_k": 2}, {"policy": "window"}, {"top_k": 2, "drop_in": 1.0}], ids=str
)
def test_the_default_device_does_not_matter(qkv: Make, options: dict[str, Any], backend: Any) -> None:
    """Tensors say where to compute, also where tables are made for the first time."""
    layout = ContextLayout(lengths=[17] * 9, kinds=[Kind.VIDEO] * 9, shots=[0, 0, 0, 1, 1, 2, 3, 3, 3])
    made = qkv(layout, batch=1)
    with torch.device("meta"):
        out = moc_attention(*made, layout, **options, generator=1, backend=backend)
        grads = torch.autograd.grad(out.sum(), made)
    same = moc_attention(*made, layout, **options, generator=1, backend=backend)
    assert torch.equal(out, same)
    assert {x.device.type for x in grads} == {"cpu"}


def test_refuses_a_selection_for_another_layout(ragged: ContextLayout, qkv: Make) -> None:
    q, k, v = qkv(ragged)
    other = ContextLayout(lengths=ragged.lengths, kinds=ragged.kinds, shots=[s + 1 for s in ragged.shots])
    with pytest.raises(ValueError, match="another layout"):
        routed_attention(q, k, v, ragged, route(q, k, other))


def test_every_routing_option_reaches_the_rule() -> None:
    """The public signature and the internal record name the same options."""
    options = set(route.__kwdefaults__) - {"generator", "descriptors", "backend"}
    assert options == {field.name for field in fields(Routing)}
    for field in fields(Routing):
        assert route.__kwdefaults__[field.name] == field.default
        assert moc_attention.__kwdefaults__[field.name] == field.default
