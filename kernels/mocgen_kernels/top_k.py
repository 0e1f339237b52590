"""The highest scores of every query: the top k, or as many of them as hold a share p of the softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SEARCH_FROM = 48  # candidates; sorting fewer is faster than searching for a threshold
_SEARCH_STEPS = 8  # by then some 98 % of normally distributed scores have their threshold


def best(scores: Tensor, allowed: Tensor, top_k: int, scale: float = 1.0, top_p: float = 1.0) -> Tensor:
    """The top_k highest allowed ones of every column; the lower index among equals; all if there are fewer.

    With top_p < 1 only the first of them, in falling order, until their share of the softmax of all allowed
    scores, times `scale`, reaches top_p.

    Args:
        scores: (B, H, n, Q).
        allowed: (n, Q) bool.

    Returns:
        (B, H, n, Q) bool.
    """
    enough = allowed.sum(dim=0, dtype=torch.int32)  # (Q,)
    fewest, most = (int(x) for x in enough.aminmax())
    if top_k == 0 or (top_p == 1 and most <= top_k):
        return (allowed & (top_k > 0)).expand_as(scores)
    floating = scores.is_floating_point()
    lowest = -math.inf if floating else torch.iinfo(scores.dtype).min
    if top_p < 1 or len(allowed) < _SEARCH_FROM or not floating or fewest <= top_k:
        rows = scores.masked_fill(~allowed, lowest).transpose(-1, -2)
        return _by_order(rows, top_k, scale, top_p).transpose(-1, -2) & allowed
    guess = _gauss(scores, enough, top_k)
    if fewest < len(allowed):
        scores = scores.masked_fill(~allowed, lowest)
    chosen, missed = _by_threshold(scores, guess, top_k)
    if missed.any():
        rows = scores.transpose(-1, -2)[missed]  # (missed ones, n)
        chosen.transpose(-1, -2)[missed] = _by_order(rows, top_k)
    return chosen


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


def _gauss(scores: Tensor, count: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Where the threshold of the top_k of `count` (Q,) scores lies if they are normally distributed.

    Returns the threshold and how much it grows for every score that is to fall below it: (..., Q) each.
    """
    z = torch.special.ndtri(1 - top_k / count.float())
    mean = scores.mean(dim=-2)
    spread = (scores.square().mean(dim=-2) - mean.square()).clamp_(min=0).sqrt_()
    return mean + z * spread, spread * ((z.square() / 2).exp() * math.sqrt(2 * math.pi) / count)


def _by_threshold(scores: Tensor, guess: tuple[Tensor, Tensor], top_k: int) -> tuple[Tensor, Tensor]:
    """What reaches a threshold, (..., n, Q) bool, and where it is not exactly top_k, (..., Q) bool.

    Newton's method on the count of scores that reach the threshold, kept within the bracket that is known
    so far. Counting is a few times faster than sorting.
    """
    threshold, slope = guess
    low, high = torch.full_like(threshold, -math.inf), torch.full_like(threshold, math.inf)
    reached = torch.empty_like(scores)  # 0 or 1: as floats several times faster than as bools
    ones = scores.new_ones(1, scores.shape[-2])
    for step in range(1, _SEARCH_STEPS + 1):
        torch.ge(scores, threshold[..., None, :], out=reached)
        surplus = (ones @ reached)[..., 0, :] - top_k
        if step == _SEARCH_STEPS:
            break
        low = torch.where(surplus > 0, threshold, low)
        high = torch.where(surplus < 0, threshold, high)
        newton = threshold + slope * surplus
        inside = (newton > low) & (newton < high) | (surplus == 0)
        threshold = torch.where(inside, newton, (low + high) / 2)
    return reached.bool(), surplus != 0
