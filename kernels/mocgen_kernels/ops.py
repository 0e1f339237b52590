"""The public operators: check the tensors, choose the backend."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mocgen_kernels import compiled, cpu, grouped, masked, reference, router
from mocgen_kernels.blocks import without_autocast
from mocgen_kernels.layout import ContextLayout
from mocgen_kernels.noise import SEEDS
from mocgen_kernels.plan import attention_info
from mocgen_kernels.rules import Policy, Routing, TextAnchors
from mocgen_kernels.selection import Selection

Backend = Literal["auto", "reference", "cpu", "triton"]


def route(
    q: Tensor,
    k: Tensor | None,
    layout: ContextLayout,
    *,
    top_k: int = 5,
    causal: bool = True,
    policy: Policy = "moc",
    text_anchors: TextAnchors = "own",
    local_window: int | None = None,
    first_frame: bool = False,
    top_p: float = 1.0,
    sub_descriptors: int = 1,
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    generator: torch.Generator | int | None = None,
    descriptors: Tensor | None = None,
    backend: Backend = "auto",
) -> Selection:
    """Choose, for every query token and head, the contexts that it attends to besides its anchors.

    Args:
        q: queries (B, Lq, H, D), the last Lq tokens of the layout, from a context boundary on.
        k: keys (B, L, H, D), or None where descriptors are given or the policy needs no keys.
        layout: how the L tokens are cut into C contexts.
        top_k: routed contexts per query and head; all candidates where there are fewer.
        causal: only contexts before the query's own may be routed to (anchors excepted).
        policy: "moc": highest q · descriptor, ties to the lower index; "dense": every candidate; "window":
            the top_k latest video contexts before the own shot; "first-frame": the first video context of
            every earlier shot, without a budget; "random": top_k random candidates.
        text_anchors: "own": captions other than the global prompt and the own one must be routed to; "all":
            every earlier caption is an anchor.
        local_window: None: the whole own shot is an anchor. w: of the own shot only its captions, the own
            context and w contexts on either side; the rest of it must be routed to, in both directions.
        first_frame: with a local window, the first video context of the own shot is an anchor too.
        top_p: stop before top_k once the routed contexts hold this share of the softmax of all candidates'
            scores / sqrt(D). 1: off. For policy "moc".
        sub_descriptors: r descriptors per context, one for each of r equal pieces; the highest score counts.
        drop_off: share p_max; ⌊p · routed⌋ random routed contexts are dropped, p ~ U(0, p_max). For training.
        drop_in: mean of the Poisson number of random candidates that are added. For training.
        generator: source of randomness: a seed, a generator on the CPU, or None for torch's default one.
        descriptors: mean keys (B, C · r, H, D) where they are at hand; else they are pooled from k.
        backend: "auto" and "cpu" score in chunks, "reference" all at once; "triton" in one
            kernel where policy "moc" scores up to 1024 contexts of up to 128 dimensions without drop-off
            and drop-in, else in chunks. Equal results, but for scores that differ by rounding alone. (Chunks
            on CUDA obey `torch.set_float32_matmul_precision`, the kernel never rounds to TF32.)

    Raises:
        ValueError: shapes, devices, dtypes or options that do not fit.
        NotImplementedError: backend="triton" without Triton.
    """
    routing = _routing(
        top_k=top_k,
        causal=causal,
        policy=policy,
        text_anchors=text_anchors,
        local_window=local_window,
        first_frame=first_frame,
        top_p=top_p,
        sub_descriptors=sub_descriptors,
        drop_off=drop_off,
        drop_in=drop_in,
    )
    _check_backend(backend, q)
    _check_queries(q)
    if k is not None:
        k = _shared("k", k, layout.length, q)
    if descriptors is not None:
        descriptors = _shared("descriptors", descriptors, layout.count * sub_descriptors, q)
    if _as_operator(backend, q):
        if isinstance(generator, torch.Generator):
            raise ValueError("within torch.compile the generator must be a seed (an integer) or None")
        seed = torch.randint(SEEDS, ()) if generator is None else torch.tensor(generator)
        words = compiled.route_words(
            q, k, descriptors, *compiled.layout_numbers(layout), *compiled.routing_numbers(routing), seed,
            backend == "triton",
        )  # fmt: skip
        return Selection(
            layout=layout,
            routing=routing,
            batch=q.shape[0],
            heads=q.shape[2],
            query_length=q.shape[1],
            words=words,
        )
    if backend == "reference":
        return reference.route_by(q, k, layout, routing, generator, descriptors)
    if backend == "triton":
        from mocgen_kernels._triton import routing as triton_routing

        return triton_routing.route_by(q, k, layout, routing, generator, descriptors)
    return router.route_by(q, k, layout, routing, generator, descriptors)


def routed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: ContextLayout,
    selection: Selection,
    *,
    compensate: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Exact softmax attention of every query over its anchors and its routed contexts.

    Args:
        q: queries (B, Lq, H, D), as they were routed.
        k, v: keys and values (B, L, H, D); a batch of 1 is shared by all of q's.
        layout: the layout that the selection was made for.
        selection: what `route` returned.
        compensate: a candidate of n tokens that was not chosen still contributes exp(q · k̄ / √D + log n) v̄,
            with its mean key and mean value, to numerator and denominator of the softmax.
        backend: "reference": one dense mask; "cpu", and "triton" on CUDA for fp16, bf16 or fp32 and D ≤ 128:
            no work and no memory for pairs that are not attended; "auto": the cheapest way, dense attention
            where that is cheaper, as `attention_info` tells. It does not take "triton" yet, which has run in
            the interpreter only.

    Returns:
        (B, Lq, H, D), differentiable in q, k and v. The softmax scale is 1 / sqrt(D).

    Raises:
        ValueError: shapes, dtypes, devices or a layout that do not fit.
        NotImplementedError: backend="triton" without Triton.
    """
    _check_backend(backend, q)
    if selection.layout != layout:
        raise ValueError("the selection was made for another layout")
    if selection.words is not None and selection.words.device != q.device:
        raise ValueError(f"the selection is on {selection.words.device}, q on {q.device}")
    _check_queries(q)
    routed = (selection.batch, selection.query_length, selection.heads)
    if q.shape[:3] != routed:
        raise ValueError(f"the selection is of (batch, tokens, heads) = {routed}; q has {tuple(q.shape[:3])}")
    k, v = _shared("k", k, layout.length, q), _shared("v", v, layout.length, q)
    device = q.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        q, k, v = (x if x.dtype is torch.float64 else x.to(dtype) for x in (q, k, v))  # as torch does
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v need one dtype; got {q.dtype}, {k.dtype}, {v.dtype}")
    with without_autocast(device):
        if _as_operator(backend, q):
            return compiled.routed_attention(q, k, v, selection, compensate=compensate, backend=backend)
        if backend == "reference":
            return reference.routed_attention(q, k, v, layout, selection, compensate=compensate)
        if backend == "triton":
            _check_triton_attention(q)
            from mocgen_kernels._triton import attention as triton_attention

            return triton_attention.routed_attention(q, k, v, selection, compensate=compensate)
        method = attention_info(selection, q, backend=backend, compensate=compensate).method
        if method == "visits":
            return cpu.routed_attention(q, k, v, selection, compensate=compensate)
        if method == "masked products":
            return masked.routed_attention(q, k, v, selection)
        return grouped.grouped_attention(q, k, v, selection, compensate=compensate)


def moc_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: ContextLayout,
    *,
    top_k: int = 5,
    causal: bool = True,
    policy: Policy = "moc",
    text_anchors: TextAnchors = "own",
    local_window: int | None = None,
    first_frame: bool = False,
    top_p: float = 1.0,
    sub_descriptors: int = 1,
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    generator: torch.Generator | int | None = None,
    descriptors: Tensor | None = None,
    compensate: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """`route`, then `routed_attention`: (B, Lq, H, D)."""
    selection = route(
        q,
        k,
        layout,
        top_k=top_k,
        causal=causal,
        policy=policy,
        text_anchors=text_anchors,
        local_window=local_window,
        first_frame=first_frame,
        top_p=top_p,
        sub_descriptors=sub_descriptors,
        drop_off=drop_off,
        drop_in=drop_in,
        generator=generator,
        descriptors=descriptors,
        backend=backend,
    )
    return routed_attention(q, k, v, layout, selection, compensate=compensate, backend=backend)


@lru_cache(maxsize=64)
def _routing(**options: Any) -> Routing:
    """The same record for the same options: caches know it at a glance."""
    return Routing(**options)


def _as_operator(backend: Backend, q: Tensor) -> bool:
    """Whether a graph is being compiled and holds the call as one custom operator."""
    return torch.compiler.is_compiling() and (
        backend in ("cpu", "triton") or (backend == "auto" and q.device.type == "cpu")
    )


def _check_backend(backend: Backend, q: Tensor) -> None:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}; got {backend!r}")
    if backend == "triton":
        _check_triton(q)
    if backend == "cpu" and q.device.type != "cpu":
        raise ValueError(f"backend='cpu' needs tensors on the CPU; q is on {q.device}")


def _check_triton(q: Tensor) -> None:
    if find_spec("triton") is None:
        raise NotImplementedError("backend='triton' needs the package triton; use backend='auto'")
    from mocgen_kernels._triton.device import interpreted

    if q.device.type != "cuda" and not interpreted():
        raise ValueError(
            f"backend='triton' needs tensors on a CUDA device (or TRITON_INTERPRET=1); q is on {q.device}"
        )


def _check_triton_attention(q: Tensor) -> None:
    from mocgen_kernels._triton.tiling import DTYPES, MAX_DIM

    if q.dtype not in DTYPES:
        raise ValueError(f"backend='triton' computes in fp16, bf16 or fp32; got {q.dtype}")
    if q.shape[-1] > MAX_DIM:
        raise ValueError(f"backend='triton' takes heads of up to {MAX_DIM} dimensions; got {q.shape[-1]}")


def _check_queries(q: Tensor) -> None:
    if q.dim() != 4 or 0 in q.shape:
        raise ValueError(f"q must be (batch, tokens, heads, dim), none of them 0; got {tuple(q.shape)}")
    if not q.is_floating_point() or q.dtype.itemsize < 2:
        raise ValueError(f"q must hold floating point numbers of 16 bits at least; got {q.dtype}")


def _shared(name: str, x: Tensor, length: int, q: Tensor) -> Tensor:
    """x (B, length, H, D) as q (B, Lq, H, D); a batch of one is shared by all of q's."""
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device}, q on {q.device}")
    expected = (q.shape[0], length, *q.shape[2:])
    if x.dim() == 4 and x.shape[0] == 1:
        x = x.expand(q.shape[0], *x.shape[1:])
    if tuple(x.shape) != expected:
        raise ValueError(f"{name} must be (batch, tokens, heads, dim) = {expected}; got {tuple(x.shape)}")
    return x
