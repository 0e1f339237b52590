"""Random numbers as a function of (seed, batch item, head, token, context), not of the order of computation.

So every backend, chunk size and device draws the same ones, and tail queries draw what a full pass draws.
The mixing function is a shift-multiply hash with the constants of splitmix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_HEAD_STRIDE = 1 << 40
SEEDS = 1 << 60


class Stream(IntEnum):
    """Independent uses of one seed."""

    POLICY = 0
    DROP_OFF = 1
    DROP_IN = 2
    DROP_OFF_COUNT = 3
    DROP_IN_COUNT = 4


def resolve_seed(generator: torch.Generator | int | None) -> int:
    """A seed as it is (modulo 2^60); from a generator (None: torch's default one) the next draw."""
    if isinstance(generator, int):
        return generator % SEEDS
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(SEEDS, (), generator=generator, device=device, dtype=torch.int64))


def random_rows(seed: int, stream: Stream, batch: int, heads: int, positions: Tensor) -> Tensor:
    """A random number per query: (B, H, Q) int64. `positions`: (Q,) token positions in the layout."""
    device = positions.device
    start = torch.tensor(seed * 8 + int(stream), dtype=torch.int64, device=device)
    pairs = torch.arange(batch * heads, device=device).view(batch, heads, 1) * _HEAD_STRIDE
    return _mix(_mix(start * _GOLDEN) + (pairs + positions) * _GOLDEN)


def random_ranks(rows: Tensor, contexts: Tensor) -> Tensor:
    """A random non-negative number per query and context: (B, H, Q, n) int64, from `random_rows`."""
    x = rows[..., None] + _mix(contexts * _GOLDEN + _MIX_1)
    x ^= _shift(x, 32)
    x *= _MIX_2
    return x.bitwise_right_shift_(1).bitwise_and_((1 << 63) - 1)


def uniform(rows: Tensor) -> Tensor:
    """Numbers in [0, 1) from `random_rows`: float64 of the same shape."""
    return _shift(rows, 11).double() * 2.0**-53


def poisson(rows: Tensor, mean: float, most: int) -> Tensor:
    """Poisson(mean) numbers, cut at `most`, from `random_rows`: int64 of the same shape."""
    mass = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(most)]
    steps = torch.tensor(mass, dtype=torch.float64, device=rows.device).cumsum(0)
    return torch.searchsorted(steps, uniform(rows), right=True)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
