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

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mocgen.errors import ModelError, UsageError
from mocgen.integrations.arrangement import Arrangement, arrange, routed_tokens
from mocgen_kernels import Backend, ContextLayout, Selection, route, routed_attention

Attention = Literal["moc", "dense", "random"]
Grid = tuple[int, int, int]  # latent frames, rows and columns of tokens


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
    installed = _Installation(
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
    routed = [layer.routed for layer in layers if layer.routed is not None]
    if installed.grid is None or not routed:
        raise UsageError("the transformer has not been called since enable_moc")
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


@dataclass(kw_only=True, eq=False)
class _Installation:
    """The options of one transformer, what they replaced there, and what its layers share in a call."""

    policy: Attention
    top_k: int
    frames_per_context: int
    tile: tuple[int, int] | None
    local_window: int
    first_frame: bool
    causal: bool
    top_p: float
    sub_descriptors: int
    compensate: bool
    drop_off: float
    drop_in: float
    backend: Backend
    replaced: dict[str, Any] = field(default_factory=dict)  # processors by name
    hook: Any = None
    grid: Grid | None = None
    arranged: Arrangement | None = None

    def note_grid(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Before every call of the transformer: the grid of its tokens, from what it is called with."""
        self.grid = _grid_of(module, arguments, named)
        self.arranged = self.arrange(self.grid)

    def arrange(self, grid: Grid) -> Arrangement:
        one_take = self.local_window > 0
        return arrange(*grid, self.frames_per_context, self.tile, one_take, self.first_frame)

    def select(self, q: Tensor, k: Tensor | None, layout: ContextLayout, *, training: bool) -> Selection:
        return route(
            q,
            k,
            layout,
            top_k=self.top_k,
            causal=self.causal,
            policy=self.policy,
            text_anchors="all",  # see `arrange`
            local_window=self.local_window or None,
            top_p=self.top_p,
            sub_descriptors=self.sub_descriptors,
            drop_off=self.drop_off if training else 0.0,
            drop_in=self.drop_in if training else 0.0,
            backend=self.backend,
        )


class MoCAttnProcessor:
    """Self-attention of one layer, in the form that diffusers calls."""

    def __init__(self, installed: _Installation) -> None:
        self.installed = installed
        self.routed: Tensor | float | None = None  # routed tokens of all queries in the last call, per head

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,  # (B, L, W)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        if encoder_hidden_states is not None or attention_mask is not None:
            raise UsageError("routed self-attention takes no mask; for causal generation use causal=True")
        grid, arranged = self.installed.grid, self.installed.arranged
        assert grid is not None  # noted before the first layer
        assert arranged is not None
        frames, rows, columns = grid
        if hidden_states.shape[1] != frames * rows * columns:
            raise UsageError(
                f"{hidden_states.shape[1]} tokens came, but {frames} frames of {rows} × {columns} tokens are "
                f"{frames * rows * columns}; enable_moc goes neither with tokens beside the grid nor with "
                "context parallelism"
            )
        q, k, v = _project(attn, hidden_states, rotary_emb)  # (B, L, H, D)
        if arranged.order is not None:
            order = arranged.order.to(q.device)
            q, k, v = (x[:, order] for x in (q, k, v))
        layout, installed = arranged.layout, self.installed
        selection = installed.select(q, k, layout, training=attn.training)
        self.routed = routed_tokens(selection, arranged)
        attended = routed_attention(
            q, k, v, layout, selection, compensate=installed.compensate, backend=installed.backend
        )
        if arranged.inverse is not None:
            attended = attended[:, arranged.inverse.to(q.device)]
        out, dropout = attn.to_out
        result: Tensor = dropout(out(attended.flatten(2, 3).type_as(q)))
        return result


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


def _installation(transformer: Any) -> _Installation | None:
    found = [p for p in transformer.attn_processors.values() if isinstance(p, MoCAttnProcessor)]
    return found[0].installed if found else None


def _enabled(transformer: nn.Module) -> _Installation:
    installed = _installation(transformer)
    if installed is None:
        raise UsageError("Mixture of Contexts is not enabled here; call enable_moc first")
    return installed


def _grid_of(transformer: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Grid:
    def argument(place: int, name: str) -> Any:
        return named.get(name, arguments[place] if place < len(arguments) else None)

    if hasattr(transformer, "patch_embedding"):  # Wan, SkyReels-V2: latents (B, C, F, h, w)
        sizes = zip(argument(0, "hidden_states").shape[2:], transformer.config.patch_size, strict=True)
        frames, rows, columns = (size // patch for size, patch in sizes)
        return frames, rows, columns
    frames, rows, columns = argument(4, "num_frames"), argument(5, "height"), argument(6, "width")
    if frames is None or rows is None or columns is None:
        raise UsageError("enable_moc needs num_frames, height and width in calls of the LTX transformer")
    return frames, rows, columns


def _project(
    attn: Any, x: Tensor, rotary: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:  # (B, L, H, D) each
    if getattr(attn, "fused_projections", False):
        q, k, v = attn.to_qkv(x).chunk(3, dim=-1)
    else:
        q, k, v = attn.to_q(x), attn.to_k(x), attn.to_v(x)
    q, k, v = (y.unflatten(2, (attn.heads, -1)) for y in (attn.norm_q(q), attn.norm_k(k), v))
    if rotary is not None:
        cos, sin = (y.unflatten(2, (attn.heads, -1)) if y.dim() == 3 else y for y in rotary)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    return q, k, v


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of neighbouring dimensions (B, L, H, D); cos and sin stand twice, (·, L, ·, D)."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., ::2], sin[..., ::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2).to(x.dtype)
