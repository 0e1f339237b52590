"""What was recorded of one run: labels of the contexts, and tensors over query and key contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContextLabel:
    """What a context holds, for people to read."""

    kind: Literal["text", "video"]
    shot: int | None  # from 0; None: the global prompt, which belongs to no shot
    length: int  # tokens
    frames: tuple[int, int] | None = None  # frames [first, end) of its shot, where known

    @property
    def name(self) -> str:
        """Short label for an axis: "prompt", "caption" or the frames, "0–8"."""
        if self.kind == "text":
            return "prompt" if self.shot is None else "caption"
        return f"{self.frames[0]}–{self.frames[1] - 1}" if self.frames else ""


@dataclass(frozen=True, kw_only=True)
class RoutingReport:
    """Routing of one run. N layers, H heads, C contexts; a step is one recorded call of an attention layer.

    Rows of contexts that never asked (those of a clip that was only read) are zero everywhere.
    """

    contexts: tuple[ContextLabel, ...]
    counts: Tensor  # (N, H, C, C) int64: (query token, step) pairs that routed to the key context
    mass: Tensor  # (N, H, C, C) float32: softmax probability, mean over query tokens and steps; rows sum to 1
    anchors: Tensor  # (C, C) bool: key contexts that every query of the row attended to, outside the budget
    candidates: Tensor  # (C, C) bool: key contexts that a query of the row could have been routed to
    token_steps: Tensor  # (N, C) int64: (query token, step) pairs of each query context
    pairs: Tensor  # (N, C) int64: their pairs with every token that the scene held at that step

    @property
    def layers(self) -> int:
        """Number of layers, N."""
        return self.counts.shape[0]

    @property
    def heads(self) -> int:
        """Number of heads per layer, H."""
        return self.counts.shape[1]

    @property
    def shots(self) -> int:
        """Number of shots in the scene, those of an extended clip included."""
        return 1 + max((label.shot for label in self.contexts if label.shot is not None), default=-1)

    def asking(self) -> list[int]:
        """Contexts whose tokens were recorded as queries, in order."""
        return self.token_steps.sum(0).nonzero().squeeze(1).tolist()

    def asking_shots(self) -> list[int]:
        """Shots with at least one recorded query, in order."""
        shots = (self.contexts[index].shot for index in self.asking())
        return sorted({shot for shot in shots if shot is not None})
