"""The highest scores of every query: the top k, or as many of them as hold a share p of the softmax.

Sorting is slow. A threshold that exactly k scores reach is proof enough, however it was found: for a small k
from the maxima of groups of candidates, for a larger one by Newton's method. Where no threshold separates
exactly k, between ties above all, the scores are sorted. Where k is most of the candidates, the others are
sought in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mocgen_kernels.blocks import Scratch

_MAXIMA_UP_TO = 8  # k; every further one takes another search for a maximum
_MAXIMA_WORK = 1024  # k times the candidates, where each of these is a group or shares it with one other
_GROUPS = 32  # of candidates; in 1 of 100 queries, three of the top 5 share one of them
_NEWTON_STEPS = 8  # by then some 98 % of normally distributed scores have their threshold
_FAR = 1e38  # beyond all scores


@dataclass(frozen=True)
class Allowed:
    """Which of n candidates Q queries may take; runs of neighbours may take the same ones."""

    columns: Tensor  # (n, c) bool, on the CPU: one column per run
    lengths: Sequence[int]  # queries of every run
    device: torch.device | str = "cpu"

    @cached_property
    def mask(self) -> Tensor:
        """(n, Q) bool."""
        return self._spread(self.columns)

    @cached_property
    def marks(self) -> Tensor:
        """1 where allowed, else 0: (n, Q) fp32."""
        return self._spread(self.columns.float())

    @cached_property
    def bias(self) -> Tensor:
        """0 where allowed, else −inf: (n, Q) fp32."""
        return self._spread(torch.where(self.columns, 0.0, -torch.inf))

    @cached_property
    def counts(self) -> Tensor:
        """Candidates of every query: (Q,) fp32."""
        return self._spread(self.columns.sum(dim=0, keepdim=True, dtype=torch.float32))[0]

    @cached_property
    def range(self) -> tuple[int, int]:
        """Fewest and most candidates of a query."""
        fewest, most = self.columns.sum(dim=0).aminmax()
        return int(fewest), int(most)

    def _spread(self, columns: Tensor) -> Tensor:
        runs = zip(columns.split(1, dim=1), self.lengths, strict=True)
        return torch.cat([x.expand(-1, n) for x, n in runs], dim=1).to(self.device)


def best(
    scores: Tensor,
    allowed: Allowed,
    top_k: int,
    *,
    scale: float = 1.0,
    top_p: float = 1.0,
    scratch: Scratch | None = None,
) -> Tensor:
    """The top_k highest allowed ones of every column; the lower index among equals; all if there are fewer.

    With top_p < 1 only the first of them, in falling order, until their share of the softmax of all allowed
    scores, times `scale`, reaches top_p.

    Args:
        scores: (B, H, n, Q); may be written to.
        scratch: where the result may lie, and what it takes to find it.

    Returns:
        (B, H, n, Q): bools, or 0 and 1 in the dtype of the scores.
    """
    fewest, most = allowed.range
    if top_k == 0 or (top_p == 1 and most <= top_k):
        return (allowed.mask & (top_k > 0)).expand_as(scores)
    count = len(allowed.columns)
    few = _MAXIMA_WORK // count if count <= 2 * _GROUPS else _MAXIMA_UP_TO
    omits = fewest == most < top_k + min(top_k, few)  # what is left out is sought: it is less
    sought = most - top_k if omits else top_k
    by_maxima = sought <= few
    searchable = top_p == 1 and scores.is_floating_point() and fewest > top_k
    if not searchable:
        lowest = -math.inf if scores.is_floating_point() else torch.iinfo(scores.dtype).min
        rows = scores.masked_fill(~allowed.mask, lowest).transpose(-1, -2)
        return _by_order(rows, top_k, scale, top_p).transpose(-1, -2) & allowed.mask
    scratch = scratch or Scratch()
    guess = None if by_maxima else _gauss(scores, allowed.counts, sought, scratch)
    if omits:
        torch.sub(allowed.bias, scores, out=scores)
    elif fewest < count:
        scores.add_(allowed.bias)
    threshold = (
        _by_maxima(scores, sought, scratch) if guess is None else _newton(scores, *guess, sought, scratch)
    )
    found, number = _reaching(scores, threshold, scratch)
    missed = number != sought
    if missed.any():
        rows = scores.transpose(-1, -2)[missed]  # (missed ones, n)
        ordered = _by_order(rows.flip(-1), sought).flip(-1) if omits else _by_order(rows, sought)
        found.transpose(-1, -2)[missed] = ordered.to(found.dtype)
    return torch.sub(allowed.marks, found, out=found) if omits else found


def _by_order(scores: Tensor, top_k: int, scale: float = 1.0, top_p: float = 1.0) -> Tensor:
    """(..., n) → (..., n) bool, by a partial sort; by a stable one where a tie may decide."""
    top_k = min(top_k, scores.shape[-1])
    values, index = scores.topk(min(top_k + 1, scores.shape[-1]), dim=-1)
    if (values[..., 1:] == values[..., :-1]).any():
        values, index = scores.sort(dim=-1, descending=True, stable=True)
    values, index = values[..., :top_k], index[..., :top_k]
    taken = torch.ones_like(index, dtype=torch.bool)
    if top_p < 1:
        whole = torch.logsumexp(scores * scale, dim=-1, keepdim=True)
        mass = (values * scale - whole).exp()
        taken = mass.cumsum(dim=-1) - mass < top_p
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, index, taken)


def _reaching(scores: Tensor, threshold: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Which scores (..., n, Q) reach a threshold (..., Q), as 0 and 1, and how many: (..., Q).

    Comparing and counting in floats is several times faster than in bools, and counting many by a product.
    """
    reached = scratch.take("reached", scores.shape, scores.dtype, scores.device)
    torch.ge(scores, threshold[..., None, :], out=reached)
    if scores.shape[-2] <= _GROUPS:
        return reached, reached.sum(dim=-2)
    return reached, (scores.new_ones(1, scores.shape[-2]) @ reached)[..., 0, :]


def _by_maxima(scores: Tensor, top_k: int, scratch: Scratch) -> Tensor:
    """A threshold (..., Q) that exactly top_k scores (..., n, Q) reach, for nearly all columns.

    The top_k-th highest of some of the scores, which are the two highest of every group of neighbours: the
    right one, unless three of the top_k share a group.
    """
    if top_k == 1:
        return scores.amax(dim=-2)
    peaks = _two_highest(scores, scratch)
    found = scratch.take("found", peaks.shape, peaks.dtype, peaks.device)
    for _ in range(top_k - 1):
        torch.ge(peaks, peaks.amax(dim=-2, keepdim=True), out=found)
        peaks.sub_(found, alpha=_FAR)
    return peaks.amax(dim=-2)


def _two_highest(scores: Tensor, scratch: Scratch) -> Tensor:
    """Of every group of neighbouring candidates: (..., n, Q) → (..., 2 g, Q). May be written to."""
    count, length = scores.shape[-2:]
    size = -(-count // _GROUPS)
    whole, rest = divmod(count, size)
    kept = count if size <= 2 else 2 * whole + rest
    peaks = scratch.take("peaks", (*scores.shape[:-2], kept, length), scores.dtype, scores.device)
    if size <= 2:
        return peaks.copy_(scores)
    groups = scores[..., : whole * size, :].unflatten(-2, (whole, size))
    highest = torch.amax(groups, dim=-2, out=peaks[..., :whole, :])
    others = scratch.take("reached", groups.shape, scores.dtype, scores.device)
    torch.ge(groups, highest[..., None, :], out=others)
    torch.sub(groups, others, alpha=_FAR, out=others)
    torch.amax(others, dim=-2, out=peaks[..., whole : 2 * whole, :])
    peaks[..., 2 * whole :, :] = scores[..., whole * size :, :]
    return peaks


def _gauss(scores: Tensor, count: Tensor, top_k: int, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Where the threshold of the top_k of `count` (Q,) scores lies if they are normally distributed.

    Returns the threshold and how much it grows for every score that is to fall below it: (..., Q) each.
    """
    z = torch.special.ndtri(1 - top_k / count)
    mean = scores.mean(dim=-2)
    squares = scratch.take("reached", scores.shape, scores.dtype, scores.device)
    spread = torch.mul(scores, scores, out=squares).mean(dim=-2).sub_(mean.square()).clamp_(min=0).sqrt_()
    return mean + z * spread, spread * ((z.square() / 2).exp() * math.sqrt(2 * math.pi) / count)


def _newton(scores: Tensor, threshold: Tensor, slope: Tensor, top_k: int, scratch: Scratch) -> Tensor:
    """A threshold (..., Q) that exactly top_k scores (..., n, Q) reach, for nearly all columns.

    Newton's method on the count of scores that reach the threshold, kept within the bracket that is known
    so far.
    """
    low, high = torch.full_like(threshold, -math.inf), torch.full_like(threshold, math.inf)
    for _ in range(_NEWTON_STEPS - 1):
        surplus = _reaching(scores, threshold, scratch)[1].sub_(top_k)
        low = torch.where(surplus > 0, threshold, low)
        high = torch.where(surplus < 0, threshold, high)
        newton = threshold + slope * surplus
        inside = (newton > low) & (newton < high) | (surplus == 0)
        threshold = torch.where(inside, newton, (low + high) / 2)
    return threshold
