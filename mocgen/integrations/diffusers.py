"""Mixture of Contexts in diffusers' Wan, SkyReels-V2 and LTX transformers, switched on and off in place.

    from mocgen.integrations.diffusers import disable_moc, enable_moc, moc_info

    enable_moc(pipe.transformer, top_k=3)
    video = pipe(prompt=...)
    print(moc_info(pipe.transformer).density)
    disable_moc(pipe.transformer)

Only self-attention (`attn1`) changes, by diffusers' own `set_attn_processor`. These models were trained with
dense attention: sparse use without fine-tuning is an experiment, gradients for fine-tuning are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import nn

from mocgen.errors import ModelError, UsageError
from mocgen.integrations.processor import Attention, Installation, MoCAttnProcessor
from mocgen_kernels import Backend


@dataclass(frozen=True, kw_only=True)
class MoCInfo:
    """What the last call of a transformer attended to."""

    frames: int  # latent frames
    rows: int  # of tokens in a frame
    columns: int
    contexts: int
    densities: tuple[float, ...]  # per layer: attended (query, key) pairs / all pairs

    @property
    def density(self) -> float:
        """Mean over layers."""
        return sum(self.densities) / len(self.densities)


def enable_moc(
    transformer: nn.Module,
    *,
    top_k: int = 3,
    attention: Attention = "moc",
    frames_per_context: int = 1,
    tile: tuple[int, int] | None = None,
    local_window: int = 0,
    first_frame: bool = False,
    causal: bool = False,
    top_p: float = 1.0,
    sub_descriptors: int = 1,
    compensate: bool = False,
    drop_off: float = 0.0,
    drop_in: float = 0.0,
    backend: Backend = "auto",
) -> None:
    """Let every token of self-attention attend to its own frame and to the contexts that it is routed to.

    `torch.compile` takes the transformer whole if shapes are static (`dynamic=False`), else in two graphs.
    With gradient checkpointing, a call's backward pass comes before the next call of another size.

    Args:
        transformer: `WanTransformer3DModel`, `SkyReelsV2Transformer3DModel` or `LTXVideoTransformer3DModel`.
        top_k: contexts that each token and head is routed to, besides its anchors.
        attention: "moc": those of highest score; "random": any; "dense": all, which is what the model does
            by itself.
        frames_per_context: latent frames that form a context.
        tile: (rows, columns) of tokens: contexts are tiles of a latent frame instead.
        local_window: contexts on either side of the own one that are anchors too.
        first_frame: the first latent frame is an anchor of all tokens.
        causal: only earlier contexts are routed to.
        top_p, sub_descriptors, compensate, drop_off, drop_in, backend: as in `mocgen_kernels.moc_attention`;
            drop_off and drop_in act in training mode only.

    Raises:
        ModelError: a transformer of another class.
        UsageError: it is enabled already, or options that do not fit. A later call of the transformer raises
            it for a grid of tokens that is not known or does not fit, and for an attention mask.
    """
    transformer = _checked(transformer)
    if _installation(transformer) is not None:
        raise UsageError("Mixture of Contexts is enabled here already; call disable_moc first")
    if local_window and (causal or tile):
        raise UsageError("local_window goes with whole frames and without causal=True; leave it at 0")
    for what, value, known in (("attention", attention, Attention), ("backend", backend, Backend)):
        if value not in get_args(known):
            raise UsageError(f"{what} must be one of {', '.join(get_args(known))}; got {value!r}")
    installed = Installation(
        policy=attention,
        top_k=top_k,
        frames_per_context=frames_per_context,
        tile=tile,
        local_window=local_window,
        first_frame=first_frame,
        causal=causal,
        top_p=top_p,
        sub_descriptors=sub_descriptors,
        compensate=compensate,
        drop_off=drop_off,
        drop_in=drop_in,
        backend=backend,
    )
    try:
        layout = installed.arrange((2, 1, 1)).layout
        frames = torch.zeros(1, 2, 1, 1)
        replace(installed, backend="auto").select(frames, frames, layout, training=True)
    except ValueError as error:
        raise UsageError(f"these options do not fit: {error}") from None
    own: Any = transformer
    processors = dict(own.attn_processors)
    for name in processors:
        if name.endswith(".attn1.processor"):
            installed.replaced[name] = processors[name]
            processors[name] = MoCAttnProcessor(installed)
    own.set_attn_processor(processors)
    installed.hook = transformer.register_forward_pre_hook(installed.note_grid, with_kwargs=True)


def disable_moc(transformer: nn.Module) -> None:
    """Put back the attention processors that `enable_moc` has replaced.

    Raises:
        UsageError: it is not enabled.
    """
    transformer = _checked(transformer)
    installed = _enabled(transformer)
    installed.hook.remove()
    own: Any = transformer
    own.set_attn_processor({**own.attn_processors, **installed.replaced})


def moc_info(transformer: nn.Module) -> MoCInfo:
    """What the last call attended to, counted over all items of the batch and heads.

    Raises:
        UsageError: it is not enabled, or has not been called since.
    """
    transformer = _checked(transformer)
    installed = _enabled(transformer)
    own: Any = transformer
    layers = [p for p in own.attn_processors.values() if isinstance(p, MoCAttnProcessor)]
    routed = [layer.routed for layer in layers if layer.routed is not None and layer.grid == installed.grid]
    if installed.grid is None or len(routed) < len(layers):
        raise UsageError("the transformer has not been called since enable_moc, or not to the end")
    layout = installed.arrange(installed.grid).layout
    queries = torch.zeros(()).expand(1, layout.length, 1, 1)
    nothing_routed = replace(installed, policy="moc", top_k=0, backend="auto")
    anchors = nothing_routed.select(queries, None, layout, training=False)
    pairs = anchors.pairs()
    frames, rows, columns = installed.grid
    return MoCInfo(
        frames=frames,
        rows=rows,
        columns=columns,
        contexts=layout.count,
        densities=tuple((pairs + float(tokens)) / layout.length**2 for tokens in routed),
    )


def _checked(transformer: nn.Module) -> nn.Module:
    """The transformer itself, of a class whose self-attention is known."""
    from diffusers import LTXVideoTransformer3DModel, SkyReelsV2Transformer3DModel, WanTransformer3DModel

    known = (WanTransformer3DModel, SkyReelsV2Transformer3DModel, LTXVideoTransformer3DModel)
    transformer = getattr(transformer, "_orig_mod", transformer)  # of torch.compile
    if not isinstance(transformer, known):
        raise ModelError(
            f"{type(transformer).__name__} is not supported; give the transformer of a Wan, SkyReels-V2 or "
            "LTX pipeline, as in enable_moc(pipe.transformer)"
        )
    return transformer


def _installation(transformer: Any) -> Installation | None:
    found = [p for p in transformer.attn_processors.values() if isinstance(p, MoCAttnProcessor)]
    return found[0].installed if found else None


def _enabled(transformer: nn.Module) -> Installation:
    installed = _installation(transformer)
    if installed is None:
        raise UsageError("Mixture of Contexts is not enabled here; call enable_moc first")
    return installed
