"""Pictures in overlapping tiles that are worked on one by one and blended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Square tiles of `size` pixels; neighbours share at least `overlap` pixels, over which they fade.

    Raises:
        ValueError: an overlap of more than half a tile, or none at all.
    """

    size: int = 256
    overlap: int = 64

    def __post_init__(self) -> None:
        if not 0 < 2 * self.overlap <= self.size:
            raise ValueError(f"tiles of {self.size} pixels cannot overlap by {self.overlap}")

    def scaled(self, unit: int) -> Tiling:
        """The same in units of some pixels.

        Raises:
            ValueError: the tiling is not a multiple of the unit.
        """
        if self.size % unit or self.overlap % unit:
            raise ValueError(
                f"tiles of {self.size} pixels with overlap {self.overlap} must be multiples of {unit}"
            )
        return Tiling(size=self.size // unit, overlap=self.overlap // unit)


Tile = tuple[slice, slice]  # rows, columns


def tiles_of(height: int, width: int, tiling: Tiling | None) -> list[Tile]:
    """The tiles of a picture, evenly spread; one tile where it is no larger than that, or without tiling."""
    rows, columns = (_spans(length, tiling) for length in (height, width))
    return [(row, column) for row in rows for column in columns]


def blend(
    tiles: list[Tile], work: Callable[[int, Tile], Tensor], size: tuple[int, int], scale: float, overlap: int
) -> Tensor:
    """Work on one tile after the other and blend the results linearly where they overlap.

    tiles: of the input. work(number, tile) gives the tile's result (..., h · scale, w · scale).
    size: rows and columns of the whole result (..., H, W). overlap: length of a fade, in result units.
    """
    if len(tiles) == 1:
        return work(0, tiles[0])
    total: Tensor | None = None
    for number, tile in enumerate(tiles):
        part = work(number, tile)
        rows, columns = (slice(round(s.start * scale), round(s.stop * scale)) for s in tile)
        fades = (_fade(s.start, s.stop, n, overlap) for s, n in zip((rows, columns), size, strict=True))
        down, across = (fade.to(part.device) for fade in fades)
        weight = down[:, None] * across  # (h · scale, w · scale)
        if total is None:
            total = torch.zeros(*part.shape[:-2], *size, dtype=torch.float32, device=part.device)
            weights = torch.zeros(size, device=part.device)
        total[..., rows, columns] += part * weight
        weights[rows, columns] += weight
    assert total is not None
    return total.div_(weights).to(part.dtype)


def _spans(length: int, tiling: Tiling | None) -> list[slice]:
    if tiling is None or length <= tiling.size:
        return [slice(0, length)]
    steps = -(-(length - tiling.size) // (tiling.size - tiling.overlap))
    starts = [step * (length - tiling.size) // steps for step in range(steps + 1)]
    return [slice(start, start + tiling.size) for start in starts]


@lru_cache(maxsize=64)
def _fade(start: int, stop: int, length: int, overlap: int) -> Tensor:
    """Weight of every row (or column) of a span: 1, but rising from 0 and falling to 0 at inner edges."""
    weight = torch.ones(stop - start)
    ramp = torch.arange(overlap) / overlap
    if start > 0:
        weight[:overlap] *= ramp
    if stop < length:
        weight[-overlap:] *= 1 - ramp
    return weight
