"""Routed self-attention in the form that diffusers calls, and what the layers of a transformer share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mocgen.errors import UsageError
from mocgen.integrations.arrangement import Arrangement, arrange, routed_tokens
from mocgen_kernels import Backend, ContextLayout, Selection, route, routed_attention

Attention = Literal["moc", "dense", "random"]
Grid = tuple[int, int, int]  # latent frames, rows and columns of tokens


@dataclass(kw_only=True, eq=False)
class Installation:
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
        """Which contexts the tokens of a grid form."""
        one_take = self.local_window > 0
        return arrange(*grid, self.frames_per_context, self.tile, one_take, self.first_frame)

    def select(self, q: Tensor, k: Tensor | None, layout: ContextLayout, *, training: bool) -> Selection:
        """Route queries (B, L, H, D) by these options."""
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

    def __init__(self, installed: Installation) -> None:
        self.installed = installed
        self.routed: Tensor | float | None = None  # routed tokens of all queries in the last call, per head
        self.grid: Grid | None = None  # of that call

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
        self.routed, self.grid = routed_tokens(selection, arranged), grid
        attended = routed_attention(
            q, k, v, layout, selection, compensate=installed.compensate, backend=installed.backend
        )
        if arranged.inverse is not None:
            attended = attended[:, arranged.inverse.to(q.device)]
        out, dropout = attn.to_out
        result: Tensor = dropout(out(attended.flatten(2, 3).type_as(q)))
        return result


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
