"""Routed bits turned around: for every head and context, the ascending list of queries that chose it.

Count, scan, fill: every block of queries counts its visitors per context, a prefix sum gives each block its
place, and each block writes its visitors there. No atomics, so the lists are always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from mocgen_kernels._triton.saved import Inputs

_BLOCK = 256
_LEAST_MEMORY = 1 << 26  # bytes
_MOST_PAIRS = 65_535  # CUDA's limit for the second and third dimension of a grid


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryLists:
    """Lists of n pairs of batch item and head, one after the other: pair-major, then by context."""

    queries: Tensor  # (entries,) int32
    begins: Tensor  # (n · C + 1,) int64, on the device
    most: tuple[int, ...]  # per context: the longest of its n lists


def pair_blocks(inputs: Inputs) -> Iterator[tuple[int, int]]:
    """Ranges of (batch item, head) pairs whose lists and sums take no more memory than q, or than 64 MB.

    The more at a time the fewer launches: every range takes one per context.
    """
    q, selection = inputs.q, inputs.selection
    numbers = q.shape[1] * q.shape[3]  # of a pair: unnormalised output, or gradients
    if selection.words is not None:
        numbers += int(q.shape[1] * selection.budget)
        numbers += 5 * selection.layout.count * triton.cdiv(q.shape[1], _BLOCK)  # where lists begin
    most = max(_LEAST_MEMORY, q.numel() * q.element_size()) // (4 * numbers)
    pairs, size = selection.batch * selection.heads, max(1, min(_MOST_PAIRS, most))
    for begin in range(0, pairs, size):
        yield begin, min(begin + size, pairs)


def query_lists(words: Tensor, contexts: int) -> QueryLists:
    """Build the lists of some pairs: words (n, Lq, W) int32, contiguous."""
    pairs, length, width = words.shape
    blocks = triton.cdiv(length, _BLOCK)
    counts = torch.empty(pairs, contexts, blocks, dtype=torch.int32, device=words.device)
    grid = (blocks, width, pairs)
    count_kernel[grid](words, counts, length, contexts, blocks, width, BLOCK=_BLOCK)
    ends = counts.flatten().cumsum(0, dtype=torch.int64)  # (n · C · blocks,)
    starts = torch.nn.functional.pad(ends, (1, 0))
    begins = starts[::blocks].contiguous()  # (n · C + 1,)
    known = begins.cpu()
    queries = torch.empty(int(known[-1]), dtype=torch.int32, device=words.device)
    fill_kernel[grid](words, starts, queries, length, contexts, blocks, width, BLOCK=_BLOCK)
    most = known.diff().view(pairs, contexts).amax(dim=0)
    return QueryLists(queries=queries, begins=begins, most=tuple(most.tolist()))


@triton.jit
def hits_of(
    words: tl.tensor,  # (n · Lq, W) int32
    at: tl.tensor,  # (m,) rows of it
    inside: tl.tensor,  # (m,)
    word: tl.tensor,
    width: tl.tensor,  # W
) -> tl.tuple:
    """32 contexts, and which of m queries chose which: (32,) and (32, m) of 0 and 1."""
    bits = tl.load(words + at * width + word, mask=inside, other=0)
    lane = tl.arange(0, 32)
    return word * 32 + lane, (bits[None, :] >> lane[:, None]) & 1


@triton.jit(do_not_specialize=["contexts", "length", "blocks", "width"])
def count_kernel(
    words: tl.tensor,  # (n, Lq, W) int32
    counts: tl.tensor,  # (n, C, blocks) int32
    length: tl.tensor,
    contexts: tl.tensor,
    blocks: tl.tensor,
    width: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """How many queries of one block chose each of 32 contexts."""
    block, word, pair = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    context, hits = hits_of(words, pair * length + rows, rows < length, word, width)
    at = (pair * contexts + context) * blocks + block
    tl.store(counts + at, tl.sum(hits, axis=1), mask=context < contexts)


@triton.jit(do_not_specialize=["contexts", "length", "blocks", "width"])
def fill_kernel(
    words: tl.tensor,  # (n, Lq, W) int32
    starts: tl.tensor,  # (n · C · blocks + 1,) int64
    queries: tl.tensor,  # (entries,) int32
    length: tl.tensor,
    contexts: tl.tensor,
    blocks: tl.tensor,
    width: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Write the queries of one block that chose each of 32 contexts to their places."""
    block, word, pair = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    context, hits = hits_of(words, pair * length + rows, rows < length, word, width)
    start = tl.load(starts + (pair * contexts + context) * blocks + block, mask=context < contexts, other=0)
    at = start[:, None] + tl.cumsum(hits, axis=1) - 1
    chosen = (hits == 1) & (context < contexts)[:, None]
    tl.store(queries + at, tl.broadcast_to(rows[None, :], (32, BLOCK)), mask=chosen)
