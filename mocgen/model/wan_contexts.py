"""How the frames of a Wan scene are cut into contexts, and where its tokens stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen_kernels import ContextLayout, Kind


@dataclass(frozen=True, kw_only=True)
class ContextCut:
    """What a context is: `frames` latent frames of a shot, or a tile of (rows, columns) tokens of one.

    Raises:
        ValueError: less than one frame or token, or tiles of several frames.
    """

    frames: int = 1
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if min(self.frames, *(self.tile or ())) < 1 if self.tile else self.frames < 1:
            raise ValueError("a context needs at least one frame, or a tile of at least one token")
        if self.tile and self.frames > 1:
            raise ValueError("a context is a run of frames or a tile of one frame, not both")


@dataclass(frozen=True, kw_only=True)
class WanGrid:
    """Tokens of one frame; `order` lists them (row · columns + column) tile by tile."""

    rows: int
    columns: int
    order: Tensor  # (P,)
    tiles: tuple[int, ...]  # tokens of each tile; one tile: the whole frame


def make_grid(rows: int, columns: int, cut: ContextCut) -> WanGrid:
    """The tokens of a frame in the order in which contexts hold them."""
    numbers = torch.arange(rows * columns).view(rows, columns)
    height, width = cut.tile or (rows, columns)
    tiles = [tile.flatten() for band in numbers.split(height) for tile in band.split(width, dim=1)]
    return WanGrid(
        rows=rows, columns=columns, order=torch.cat(tiles), tiles=tuple(len(tile) for tile in tiles)
    )


def lay_out(shots: Sequence[tuple[int, int]], grid: WanGrid, cut: ContextCut) -> ContextLayout:
    """Contexts of shots, given as (place in the scene, latent frames); the last of a shot may be shorter."""
    lengths: list[int] = []
    owners: list[int] = []
    for index, frames in shots:
        if cut.tile:
            cuts = list(grid.tiles) * frames
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
