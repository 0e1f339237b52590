"""How the tokens of a single take are cut into contexts, and how many were routed to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from mocgen.model.cut import ContextCut
from mocgen.model.wan_contexts import lay_out, make_grid
from mocgen_kernels import ContextLayout, Kind, Selection

WORD_BITS = 32


@dataclass(kw_only=True, eq=False)
class Arrangement:
    """The contexts of L tokens. Not to be changed: calls with the same grid share it."""

    layout: ContextLayout
    order: Tensor | None  # (L,) token that stands at every place; None: as they come
    inverse: Tensor | None  # (L,) place of every token
    words_by_length: list[tuple[int, Tensor]]  # bits of the contexts that have this length: (W,) int32


@torch.compiler.assume_constant_result
def arrange(
    frames: int,
    rows: int,
    columns: int,
    frames_per_context: int,
    tile: tuple[int, int] | None,
    one_take: bool,
    first_frame: bool,
) -> Arrangement:
    """The contexts of frames of rows × columns tokens.

    To the operator a shot is what attends to itself densely. In one take that is nothing but the own context
    and its local window; otherwise every context, or the tiles of a frame, form a shot of their own. What all
    queries attend to are captions: the first frame takes the place of one.

    Raises:
        ValueError: less than one frame or token, or tiles of several frames.
    """
    return _arrange(frames, rows, columns, frames_per_context, tile, one_take, first_frame)


@lru_cache(maxsize=16)
def _arrange(
    frames: int,
    rows: int,
    columns: int,
    frames_per_context: int,
    tile: tuple[int, int] | None,
    one_take: bool,
    first_frame: bool,
) -> Arrangement:
    cut = ContextCut(frames=frames_per_context, tile=tile)
    grid = make_grid(rows, columns, cut)
    step = frames if one_take else frames_per_context
    shots = [(first, min(step, frames - first)) for first in range(0, frames, step)]
    layout = lay_out(shots, grid, cut)
    if first_frame:
        count = len(grid.spans)
        layout = replace(layout, kinds=[*[Kind.TEXT] * count, *layout.kinds[count:]])
    order = inverse = None
    if tile is not None:
        order = (torch.arange(frames)[:, None] * (rows * columns) + grid.order).flatten()
        inverse = order.argsort()
    lengths = layout.lengths
    words = [(length, _words([n == length for n in lengths])) for length in sorted(set(lengths))]
    return Arrangement(layout=layout, order=order, inverse=inverse, words_by_length=words)


def routed_tokens(selection: Selection, arrangement: Arrangement) -> Tensor | float:
    """Sum over queries of the tokens that they are routed to, mean over batch items and heads.

    A tensor is on the device of the queries, so that nothing has to wait for it.
    """
    if selection.words is None:
        lengths, table = torch.tensor(selection.layout.lengths, dtype=torch.float64), selection.table
        assert table is not None
        return float(lengths @ table.double() @ lengths)
    routed = selection.words
    counts = [n * _count(routed & words.to(routed.device)) for n, words in arrangement.words_by_length]
    return torch.stack(counts).sum() / (selection.batch * selection.heads)


def _words(bits: list[bool]) -> Tensor:
    """One bit per context: (W,) int32."""
    words = [0] * -(-len(bits) // WORD_BITS)
    for context, bit in enumerate(bits):
        words[context // WORD_BITS] |= bit << context % WORD_BITS
    return torch.tensor(words, dtype=torch.int64).to(torch.int32)


def _count(words: Tensor) -> Tensor:
    """Number of bits that are set in int32 words: fields of 1, 2 and 4 bits are added, then bytes."""
    x = words - ((words >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return x.contiguous().view(torch.uint8).sum()
