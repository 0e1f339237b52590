"""The packed layout of a scene: [global prompt][caption 1][shot 1][caption 2][shot 2]…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind

GLOBAL_PROMPT = -1  # the shot that the global prompt belongs to


@dataclass(frozen=True, kw_only=True)
class ShotShape:
    """Extent of one shot: caption tokens and temporal token groups; `index` is its place in the scene."""

    index: int
    caption_tokens: int
    groups: int


@dataclass(frozen=True, kw_only=True)
class PackedScene:
    """Where each token of a run of shots stands. L tokens in all, G segments (prompt and shots)."""

    lengths: tuple[int, ...]  # tokens of each context
    kinds: tuple[Kind, ...]
    shots: tuple[int, ...]
    positions: Tensor  # (L, 4): shot, time, height, width
    segment: Tensor  # (L,) which noise level and caption a token follows: its index among the G segments
    text: tuple[slice, ...]  # tokens of each segment's caption
    video: tuple[slice, ...]  # tokens of each segment's frames (empty for the global prompt)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def pack_scene(prompt_tokens: int, shots: Sequence[ShotShape], *, grid: int) -> PackedScene:
    """Lay out a global prompt (0 tokens: none) and shots whose frames are grid × grid tokens per group.

    Contexts are cut at captions, shots and frame groups: one context per caption, one per group.
    """
    lengths: list[int] = []
    kinds: list[Kind] = []
    owners: list[int] = []
    positions: list[Tensor] = []
    segments: list[Tensor] = []
    text: list[slice] = []
    video: list[slice] = []
    total = 0

    def add(count: int, kind: Kind, owner: int, where: Tensor) -> None:
        nonlocal total
        lengths.append(count)
        kinds.append(kind)
        owners.append(owner)
        positions.append(where)
        total += count

    if prompt_tokens:
        add(prompt_tokens, Kind.TEXT, GLOBAL_PROMPT, _text_positions(prompt_tokens, shots[0].index))
        text.append(slice(0, total))
        video.append(slice(total, total))
        segments.append(torch.zeros(total, dtype=torch.long))
    for shot in shots:
        start = total
        add(shot.caption_tokens, Kind.TEXT, shot.index, _text_positions(shot.caption_tokens, shot.index))
        text.append(slice(start, total))
        begin = total
        for group in range(shot.groups):
            add(grid * grid, Kind.VIDEO, shot.index, _video_positions(shot.index, group, grid))
        video.append(slice(begin, total))
        segments.append(torch.full((total - start,), len(text) - 1, dtype=torch.long))
    return PackedScene(
        lengths=tuple(lengths),
        kinds=tuple(kinds),
        shots=tuple(owners),
        positions=torch.cat(positions),
        segment=torch.cat(segments),
        text=tuple(text),
        video=tuple(video),
    )


def layout_after(past: ContextLayout | None, scene: PackedScene | ContextLayout) -> ContextLayout:
    """The layout of a memory's contexts followed by those of `scene`."""
    if past is None:
        return ContextLayout(lengths=scene.lengths, kinds=scene.kinds, shots=scene.shots)
    return ContextLayout(
        lengths=(*past.lengths, *scene.lengths),
        kinds=(*past.kinds, *scene.kinds),
        shots=(*past.shots, *scene.shots),
    )


def _text_positions(count: int, shot: int) -> Tensor:  # (count, 4)
    # captions stand at the origin of their shot's grid; word order is told by a learned position
    return torch.tensor([[shot, 0, 0, 0]]).repeat(count, 1)


def _video_positions(shot: int, group: int, grid: int) -> Tensor:  # (grid², 4)
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    where = torch.stack((row.flatten(), column.flatten()), dim=-1)
    return torch.cat((torch.tensor([[shot, group]]).repeat(grid * grid, 1), where), dim=-1)
