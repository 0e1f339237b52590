"""How the frames of a Wan scene are cut into contexts, and where its tokens stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind

from .cut import ContextCut


@dataclass(frozen=True, kw_only=True)
class WanGrid:
    """Tokens of one frame, cut into tiles (one: the whole frame)."""

    rows: int
    columns: int
    spans: tuple[tuple[range, range], ...]  # rows and columns of each tile
    order: Tensor  # (P,) tokens (row · columns + column) tile by tile


def make_grid(rows: int, columns: int, cut: ContextCut) -> WanGrid:
    """The tokens of a frame in the order in which contexts hold them."""
    height, width = cut.tile or (rows, columns)
    spans = tuple(
        (range(top, min(top + height, rows)), range(left, min(left + width, columns)))
        for top in range(0, rows, height)
        for left in range(0, columns, width)
    )
    order = [row * columns + column for ys, xs in spans for row in ys for column in xs]
    return WanGrid(rows=rows, columns=columns, spans=spans, order=torch.tensor(order))


def lay_out(shots: Sequence[tuple[int, int]], grid: WanGrid, cut: ContextCut) -> ContextLayout:
    """Contexts of shots, given as (place in the scene, latent frames); the last of a shot may be shorter."""
    lengths: list[int] = []
    owners: list[int] = []
    for index, frames in shots:
        if cut.tile:
            cuts = [len(rows) * len(columns) for rows, columns in grid.spans] * frames
        else:
            tokens = grid.rows * grid.columns
            cuts = [tokens * min(cut.frames, frames - first) for first in range(0, frames, cut.frames)]
        lengths += cuts
        owners += [index] * len(cuts)
    return ContextLayout(lengths=lengths, kinds=[Kind.VIDEO] * len(lengths), shots=owners)


def token_positions(frames: Tensor, grid: WanGrid) -> Tensor:
    """Time, row and column of every token of the frames at these times (F,): (F · P, 3)."""
    row, column = grid.order // grid.columns, grid.order % grid.columns
    time = frames.repeat_interleave(len(grid.order))
    return torch.stack((time, row.repeat(len(frames)), column.repeat(len(frames))), dim=-1)
