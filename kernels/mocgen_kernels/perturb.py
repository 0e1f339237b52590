"""Drop-off and drop-in: random changes to the routed contexts during training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mocgen_kernels.noise import Stream, poisson, random_ranks, random_rows, uniform
from mocgen_kernels.rules import Routing

_TAIL = 1e-9


def drop_off_drop_in(
    routed: Tensor, candidates: Tensor, routing: Routing, seed: int, positions: Tensor, contexts: Tensor
) -> Tensor:
    """Drop some of the routed contexts of every query and add some candidates.

    With r contexts routed, ⌊p · r⌋ random ones are dropped, p ~ U(0, routing.drop_off) per query and head;
    m ~ Poisson(routing.drop_in) random candidates that were not routed are added (all if there are fewer).

    Args:
        routed: (B, H, Q, n) bool.
        candidates: (n,) or (Q, n) bool.
        positions: (Q,) token positions of the queries in the layout.
        contexts: (n,) indices of the contexts in the layout.

    Returns:
        (B, H, Q, n) bool.
    """
    batch, heads = routed.shape[:2]
    kept, added = routed, None
    most = math.floor(routing.drop_off * int(routed.sum(dim=-1).max()))
    if most > 0:
        share = uniform(random_rows(seed, Stream.DROP_OFF_COUNT, batch, heads, positions)) * routing.drop_off
        number = (share * routed.sum(dim=-1)).floor().long()  # (B, H, Q)
        ranks = random_ranks(random_rows(seed, Stream.DROP_OFF, batch, heads, positions), contexts)
        kept = routed & ~pick(ranks, routed, number, most)
    if routing.drop_in > 0:
        free = candidates & ~routed
        most = min(_poisson_bound(routing.drop_in), routed.shape[-1])
        rows = random_rows(seed, Stream.DROP_IN_COUNT, batch, heads, positions)
        number = poisson(rows, routing.drop_in, most)  # (B, H, Q)
        ranks = random_ranks(random_rows(seed, Stream.DROP_IN, batch, heads, positions), contexts)
        added = pick(ranks, free, number, most)
    return kept if added is None else kept | added


def pick(ranks: Tensor, allowed: Tensor, number: Tensor, most: int) -> Tensor:
    """The `number` (B, H, Q) ≤ `most` allowed entries of highest rank in every row: (B, H, Q, n) bool."""
    best, index = ranks.masked_fill(~allowed, -1).topk(most, dim=-1)  # (B, H, Q, most)
    taken = (torch.arange(most, device=ranks.device) < number[..., None]) & (best >= 0)
    return torch.zeros_like(ranks, dtype=torch.bool).scatter_(-1, index, taken)


def _poisson_bound(mean: float) -> int:
    """A number that a Poisson(mean) variable exceeds with a probability below 1e-9."""
    bound, mass, tail = 0, math.exp(-mean), 1.0 - math.exp(-mean)
    while tail > _TAIL:
        bound += 1
        mass *= mean / bound
        tail -= mass
    return bound
