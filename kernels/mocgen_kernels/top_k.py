"""The highest scores of every query: the top k, or as many of them as hold a share p of the softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SEARCH_FROM = 48  # candidates; sorting fewer is faster than searching for a threshold
_SEARCH_STEPS = 6  # by then some 95 % of normally distributed scores have their threshold


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
    count = len(allowed)
    enough = allowed.sum(dim=0)  # (Q,)
    if top_k == 0 or (top_p == 1 and int(enough.max()) <= top_k):
        return (allowed & (top_k > 0)).expand_as(scores)
    lowest = -math.inf if scores.is_floating_point() else torch.iinfo(scores.dtype).min
    if top_p < 1 or count < _SEARCH_FROM or not scores.is_floating_point() or int(enough.min()) <= top_k:
        rows = scores.masked_fill(~allowed, lowest).transpose(-1, -2)
        return _by_order(rows, top_k, scale, top_p).transpose(-1, -2) & allowed
    chosen, missed = _by_threshold(scores, allowed, top_k)
    if missed.any():
        rows = scores.masked_fill(~allowed, lowest).transpose(-1, -2)[missed]  # (missed ones, n)
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


def _by_threshold(scores: Tensor, allowed: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """What reaches a threshold, (..., n, Q) bool, and where it is not exactly top_k, (..., Q) bool.

    Newton's method on the count of scores above the threshold, as if they were normally distributed, kept
    within the bracket that is known so far. Counting is a few times faster than sorting.
    """
    count = allowed.sum(dim=0)  # (Q,)
    z = torch.special.ndtri(1 - top_k / count.float())
    mean = scores.mean(dim=-2)
    spread = (scores.square().mean(dim=-2) - mean.square()).clamp_(min=0).sqrt_()  # (..., Q)
    slope = spread * ((z.square() / 2).exp() * math.sqrt(2 * math.pi) / count)  # threshold per score too many
    low, high = torch.full_like(mean, -math.inf), torch.full_like(mean, math.inf)
    threshold = mean + z * spread
    everywhere = bool(allowed.all())
    for step in range(1, _SEARCH_STEPS + 1):
        chosen = scores >= threshold[..., None, :]
        if not everywhere:
            chosen &= allowed
        surplus = chosen.sum(dim=-2, dtype=torch.int32) - top_k
        if step == _SEARCH_STEPS:
            break
        low = torch.where(surplus > 0, threshold, low)
        high = torch.where(surplus < 0, threshold, high)
        newton = threshold + slope * surplus
        inside = (newton > low) & (newton < high) | (surplus == 0)
        threshold = torch.where(inside, newton, (low + high) / 2)
    return chosen, surplus != 0
