"""The operators as torch custom operators, so that `torch.compile` takes them whole.

A compiled graph holds tensors and plain numbers only: a layout travels as three lists of integers, the
options as scalars. The operators run what the eager ones run; attention in a way that has a backward pass of
its own, since nothing within an operator is differentiated. So "auto" goes without unmasked attention, and
compensates by visits only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mocgen_kernels import cpu, masked, router
from mocgen_kernels.compensation import context_means
from mocgen_kernels.layout import ContextLayout, Kind
from mocgen_kernels.plan import attention_info
from mocgen_kernels.rules import Routing
from mocgen_kernels.selection import Selection, words_for

_KINDS = (Kind.TEXT, Kind.VIDEO)
_OPTIONS = (
    "top_k", "causal", "policy", "text_anchors", "local_window", "first_frame", "top_p", "sub_descriptors",
    "drop_off", "drop_in",
)  # fmt: skip
_WAYS = {"visits": cpu, "masked products": masked}


def layout_numbers(layout: ContextLayout) -> tuple[list[int], list[int], list[int]]:
    """Lengths, kinds (0: text, 1: video) and shots."""
    return list(layout.lengths), [int(kind is Kind.VIDEO) for kind in layout.kinds], list(layout.shots)


def routing_numbers(routing: Routing) -> tuple[Any, ...]:
    """Its options, in the order of the operators' arguments."""
    return tuple(getattr(routing, name) for name in _OPTIONS)


@lru_cache(maxsize=64)
def _routing(*numbers: Any) -> Routing:
    return Routing(**dict(zip(_OPTIONS, numbers, strict=True)))


@lru_cache(maxsize=64)
def _layout(lengths: tuple[int, ...], kinds: tuple[int, ...], shots: tuple[int, ...]) -> ContextLayout:
    return ContextLayout(lengths=lengths, kinds=[_KINDS[kind] for kind in kinds], shots=shots)


@torch.library.custom_op("mocgen::route", mutates_args=())
def route_words(
    q: Tensor,
    k: Tensor | None,
    descriptors: Tensor | None,
    lengths: list[int],
    kinds: list[int],
    shots: list[int],
    top_k: int,
    causal: bool,
    policy: str,
    text_anchors: str,
    local_window: int | None,
    first_frame: bool,
    top_p: float,
    sub_descriptors: int,
    drop_off: float,
    drop_in: float,
    seed: Tensor,
    triton: bool,
) -> Tensor:
    """Bits (B, H, Lq, W) of the routed contexts. `seed`: int64, on the CPU; see `route` for the rest."""
    numbers = (top_k, causal, policy, text_anchors, local_window, first_frame, top_p, sub_descriptors)
    routing = _routing(*numbers, drop_off, drop_in)
    layout = _layout(tuple(lengths), tuple(kinds), tuple(shots))
    route_by = _triton_routing().route_by if triton else router.route_by
    return route_by(q, k, layout, routing, int(seed), descriptors).explicit_words(q.device)


@route_words.register_fake
def _(q: Tensor, k: Tensor | None, descriptors: Tensor | None, lengths: list[int], *_: Any) -> Tensor:
    batch, length, heads, _dim = q.shape
    return q.new_empty(batch, heads, length, words_for(len(lengths)), dtype=torch.int32)


@torch.library.custom_op("mocgen::routed_attention", mutates_args=())
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    words: Tensor | None,
    lengths: list[int],
    kinds: list[int],
    shots: list[int],
    top_k: int,
    causal: bool,
    policy: str,
    text_anchors: str,
    local_window: int | None,
    first_frame: bool,
    top_p: float,
    sub_descriptors: int,
    drop_off: float,
    drop_in: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Output (B, Lq, H, D) and log-sum-exp, as the backend keeps it: (B, Lq, H), Triton (B · H, Lq)."""
    numbers = (top_k, causal, policy, text_anchors, local_window, first_frame, top_p, sub_descriptors)
    selection = _selection(q, words, (lengths, kinds, shots), (*numbers, drop_off, drop_in), backend)
    way = _way(backend, selection, q, compensate=k_means is not None)
    out, lse = way.attend(q, k, v, k_means, v_means, selection)
    return out.contiguous(), lse.contiguous()


@attend.register_fake
def _(q: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    batch, length, heads, _dim = q.shape
    precise = torch.promote_types(q.dtype, torch.float32)
    shape = (batch * heads, length) if arguments[-1] == "triton" else (batch, length, heads)
    return q.new_empty(q.shape), q.new_empty(shape, dtype=precise)


@torch.library.custom_op("mocgen::routed_attention_backward", mutates_args=())
def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_means: Tensor | None,
    v_means: Tensor | None,
    out: Tensor,
    lse: Tensor,
    words: Tensor | None,
    lengths: list[int],
    kinds: list[int],
    shots: list[int],
    top_k: int,
    causal: bool,
    policy: str,
    text_anchors: str,
    local_window: int | None,
    first_frame: bool,
    top_p: float,
    sub_descriptors: int,
    drop_off: float,
    drop_in: float,
    backend: str,
) -> list[Tensor]:
    """Gradients of q, k and v, and of both means if they are given."""
    numbers = (top_k, causal, policy, text_anchors, local_window, first_frame, top_p, sub_descriptors)
    selection = _selection(q, words, (lengths, kinds, shots), (*numbers, drop_off, drop_in), backend)
    way = _way(backend, selection, q, compensate=k_means is not None)
    gradients = way.gradients(grad, q, k, v, k_means, v_means, out, lse, selection)
    return [x.contiguous() for x in gradients if x is not None]


@attend_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, k_means: Tensor | None, v_means: Tensor | None, *_: Any
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in (q, k, v, k_means, v_means) if x is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, k_means, v_means, words, *numbers = inputs
    ctx.save_for_backward(q, k, v, k_means, v_means, *output, words)
    ctx.numbers = numbers


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = attend_backward(grad, *ctx.saved_tensors, *ctx.numbers)
    gradients += [None] * (5 - len(gradients))
    return (*gradients, *[None] * (1 + len(ctx.numbers)))


attend.register_autograd(_differentiate, setup_context=_keep)


def routed_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, *, compensate: bool, backend: str
) -> Tensor:
    """`mocgen_kernels.routed_attention` as one operator."""
    layout = selection.layout
    k_means = context_means(k, layout) if compensate else None
    v_means = context_means(v, layout) if compensate else None
    numbers = (*layout_numbers(layout), *routing_numbers(selection.routing))
    return attend(q, k, v, k_means, v_means, selection.words, *numbers, backend)[0]


def _way(backend: str, selection: Selection, q: Tensor, *, compensate: bool) -> Any:
    """The module that attends; forward and backward pass come to the same."""
    if backend == "triton":
        return _triton_attention()
    if backend == "cpu" or compensate:
        return cpu
    return _WAYS[attention_info(selection, q).method]


def _selection(
    q: Tensor,
    words: Tensor | None,
    layout: tuple[list[int], list[int], list[int]],
    routing: tuple[Any, ...],
    backend: str,
) -> Selection:
    """What was routed. Without words tokens had no say; then only Triton goes without."""
    selection = Selection(
        layout=_layout(*(tuple(x) for x in layout)),
        routing=_routing(*routing),
        batch=q.shape[0],
        heads=q.shape[2],
        query_length=q.shape[1],
        words=words,
    )
    return selection if backend == "triton" else replace(selection, words=selection.explicit_words(q.device))


def _triton_routing() -> Any:
    from mocgen_kernels._triton import routing

    return routing


def _triton_attention() -> Any:
    from mocgen_kernels._triton import attention

    return attention
