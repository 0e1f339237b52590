"""Self-attention of the DiT: a learned retrieval over contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocgen_kernels import ContextLayout, Selection, route, routed_attention

from .cut import ONE_FRAME, ContextCut
from .memory import ContextMemory
from .rope import rotate

Policy = Literal["moc", "dense", "window", "first-frame", "random"]


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How contexts are chosen. `drop_off` is p_max and `drop_in` is λ of the training-time drops."""

    policy: Policy = "moc"
    top_k: int = 5
    causal: bool = True
    reach: int | None = 8  # shots that an outer loop lets through to routing; None: all
    local_window: int | None = None  # contexts on either side that stay anchors; None: the whole own shot
    first_frame: bool = False  # with a local window: the own shot's first video context is an anchor too
    cut: ContextCut = ONE_FRAME  # what a context is, where the model leaves the choice
    drop_off: float = 0.0
    drop_in: float = 0.0


class Recorder(Protocol):
    """Watches what each layer routes."""

    def record(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        layout: ContextLayout,
        selection: Selection,
        *,
        scene: ContextLayout | None = None,
        contexts: Sequence[int] | None = None,
    ) -> None:
        """q: (B, Lq, H, D), the last tokens of the layout; k: (B, L, H, D).

        `layout` may hold only some contexts of the `scene`: `contexts` are their indices there.
        """


@dataclass(frozen=True, kw_only=True)
class AttentionContext:
    """What every layer's attention shares in one forward pass."""

    layout: ContextLayout  # of the memory and the current shots
    angles: Tensor  # (Lq, D/2) rotary angles of the current tokens
    routing: Routing
    memory: ContextMemory | None = None
    recorder: Recorder | None = None
    generator: torch.Generator | None = None  # for random routing and the training-time drops


class Attention(nn.Module):
    """Multi-head self-attention with QK normalisation, rotary positions and routed contexts."""

    def __init__(self, width: int, heads: int, layer: int, *, rotated_routing: bool) -> None:
        """rotated_routing: choose contexts by queries and keys after their rotary turn, or before."""
        super().__init__()
        self.heads, self.layer, self.rotated_routing = heads, layer, rotated_routing
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_scale = nn.Parameter(torch.ones(width // heads))
        self.k_scale = nn.Parameter(torch.ones(width // heads))

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:  # (B, Lq, W)
        asking, asked, v = self.split(self.qkv(x))
        q, k = rotate(asking, context.angles), rotate(asked, context.angles)
        if self.rotated_routing:
            asking, asked = q, k
        attended = attend(
            self.layer, q, k, v, context, asking=asking, asked=asked, training=self.training
        )  # (B, Lq, H, D)
        return self.out(attended.flatten(2))

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, normalised, and values, (B, Lq, H, D) each, of (B, Lq, 3·W)."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        q = F.rms_norm(q, q.shape[-1:]) * self.q_scale.to(q.dtype)
        k = F.rms_norm(k, k.shape[-1:]) * self.k_scale.to(k.dtype)
        return q, k, v


def attend(
    layer: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: AttentionContext,
    *,
    asking: Tensor,
    asked: Tensor,
    training: bool,
) -> Tensor:
    """Route the current tokens over memory and current contexts, and attend to what was chosen.

    q, k, v, and the queries and keys that routing goes by: (B, Lq, H, D). Returns (B, Lq, H, D).
    """
    routing, layout, descriptors, recall = context.routing, context.layout, None, None
    if context.memory is not None:
        reach = routing.reach if routing.policy == "moc" else None
        recall = context.memory.recall(
            layer, k, v, layout, asking=asking, asked=asked, reach=reach, top_k=routing.top_k
        )
        k, v, layout, descriptors = recall.keys, recall.values, recall.layout, recall.descriptors
    selection = route(
        asking,
        asked if descriptors is None else None,
        layout,
        top_k=routing.top_k,
        causal=routing.causal,
        policy=routing.policy,
        local_window=routing.local_window,
        first_frame=routing.first_frame,
        drop_off=routing.drop_off if training else 0.0,
        drop_in=routing.drop_in if training else 0.0,
        generator=context.generator,
        descriptors=descriptors,
    )
    if context.recorder is not None:
        scene, contexts = (recall.scene, recall.contexts) if recall else (None, None)
        context.recorder.record(layer, q, k, layout, selection, scene=scene, contexts=contexts)
    return routed_attention(q, k, v, layout, selection)
