"""Attention of some queries to some keys, relative to a number per query: parts that only have to be added.

With a reference r per query, the numerator Σ exp(s − r) v and the denominator Σ exp(s − r) of its softmax are
sums over its keys, so parts of a row need no merging. Any r near the highest logit s will do: with one too
low exp overflows, with one too high all of it vanishes. Where no logit can be far from 0, r is 0.

Two matrix products with exp between them are faster than fused attention, which looks for maxima on its way,
and r costs nothing: queries get one more dimension, which holds −r, and keys a 1. Products of 16 bits would
round the logits, so there fused attention takes their place.

Powers are of 2: exp of torch is MKL's, which on AMD takes three times as long as exp2, and everywhere 30 to
200 times as long near 1e-38. The factor log₂ e / √D is left to the products, which apply it last; so
references are kept times √D.

Everything here is of g groups of queries, each with keys of its own: keys transposed, (g, D + 1, n), the last
row 1, or (g, D, n) for fused attention. What groups are taken from are N rows in one dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

MOST_LOGITS = 1 << 20  # that exist at a time
_REFERENCES = 256  # keys that give the references, where there are more
LOG2_E = 1 / math.log(2)
_LOWEST = -100.0  # of logits that may be far below their references: numbers below 2⁻¹²⁶ are slow
_FAR = 115.0
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def is_fused(dtype: torch.dtype) -> bool:
    """Whether the forward pass in this dtype is left to fused attention."""
    return dtype.itemsize < 4


def precise(x: Tensor) -> torch.dtype:
    """What sums are kept in: fp32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def widened(x: Tensor, last: float | Tensor) -> Tensor:
    """(..., D), and in one more dimension `last` (...): (..., D + 1), fp32 at least."""
    wide = torch.empty((*x.shape[:-1], x.shape[-1] + 1), dtype=precise(x))
    wide[..., :-1] = x
    wide[..., -1] = last
    return wide


def exponent_scale(dim: int) -> float:
    """What turns products of queries and keys (..., D) into logits in base 2."""
    return dim**-0.5 * LOG2_E


def largest_norm(x: Tensor) -> float:
    """Of rows (..., D)."""
    return float(torch.linalg.vector_norm(x, dim=-1).amax())


def are_near(reach: float) -> bool:
    """Whether exp2 is harmless of all differences of logits in base 2 between −reach and reach."""
    return 2 * reach < _FAR


def with_rows(x: Tensor) -> Tensor:
    """The same, numbers of a row next to each other: fused attention takes nothing else."""
    return x if x.stride(-1) == 1 else x.contiguous()


def in_groups(x: Tensor, rows: slice | Tensor, groups: int) -> Tensor:
    """Rows of (N, …) in groups, neighbours as a view: (g, m, …)."""
    if isinstance(rows, slice):
        return x[rows].unflatten(0, (groups, -1))
    return x.index_select(0, rows)[None]


class Values(NamedTuple):
    """Keys and values for the forward pass."""

    keys: Tensor  # (g, D + 1, n), the last row 1; or (g, D, n) for fused attention
    v: Tensor  # (g, n, D)

    def blocks(self, q: Tensor) -> list[tuple[slice, Values]]:
        """Some of the n at a time."""
        return [(some, Values(self.keys[..., some], self.v[:, some])) for some in _blocks(q, self.keys)]


@dataclass(frozen=True)
class Queries:
    """Queries with their references, for products."""

    q: Tensor  # (g, m, D + 1), or (N, D + 1), the last column −r √D
    lowest: float | None = None  # logits below count as this; None where there are none

    @classmethod
    def of(cls, q: Tensor, reach: float) -> Queries | FusedQueries:
        """N rows from (h, Q, D), with references of 0, for keys whose norm is at most `reach`."""
        if is_fused(q.dtype):
            q = with_rows(q)
            return FusedQueries(q.flatten(0, 1), torch.zeros(q.shape[:2].numel(), dtype=precise(q)))
        q = widened(q, 0.0).flatten(0, 1)
        return cls(q, _lowest(q, reach))

    @property
    def shift(self) -> Tensor:
        """−r √D: (g, m) or (N,), a view."""
        return self.q[..., -1]

    def take(self, rows: slice | Tensor, groups: int) -> Queries:
        """Some of N rows in groups: neighbours, as a view, or those of given numbers."""
        return Queries(in_groups(self.q, rows, groups), self.lowest)

    def begin(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """Write numerators (g, m, D) and denominators (g, m); set references, unless 0 will do."""
        if self.lowest is None:
            self.write(keys, out, total)
            return
        few = Values(keys.keys[:, :-1, :_REFERENCES], keys.v[:, :_REFERENCES])
        part, lse = _fused(self.q[..., :-1], few)
        out.copy_(part)
        total.fill_(1)
        torch.mul(lse, -math.sqrt(out.shape[-1]), out=self.shift)
        if keys.v.shape[1] > _REFERENCES:
            self.add(Values(keys.keys[..., _REFERENCES:], keys.v[:, _REFERENCES:]), None, out, total)

    def add(self, keys: Values, bias: Tensor | None, out: Tensor, total: Tensor) -> None:
        """Add to numerators and denominators; bias (m, n), on top of the logits."""
        for some, block in keys.blocks(self.q):
            weights = _exp_logits(self.q, block.keys, None if bias is None else bias[:, some], self.lowest)
            out.baddbmm_(weights, block.v)
            total.add_(weights.sum(dim=-1))

    def write(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """Write numerators and denominators."""
        if self.q.shape[0] * self.q.shape[1] * keys.v.shape[1] > MOST_LOGITS:
            self.add(keys, None, out.zero_(), total.zero_())
            return
        weights = _exp_logits(self.q, keys.keys, None, self.lowest)
        torch.sum(weights, dim=-1, out=total)
        torch.bmm(weights, keys.v, out=out)

    def peaks(self, keys: Values, bias: Tensor | None) -> Tensor:
        """The highest logits, less their references, times √D: (g, m)."""
        peaks = torch.full(self.q.shape[:2], -torch.inf, dtype=self.q.dtype)
        for some, block in keys.blocks(self.q):
            logits = torch.bmm(self.q, block.keys)
            logits = logits if bias is None else logits.add_(bias[:, some], alpha=math.sqrt(keys.v.shape[2]))
            torch.maximum(peaks, logits.amax(dim=-1), out=peaks)
        return peaks


@dataclass(frozen=True)
class FusedQueries:
    """The same for fused attention, but for means of contexts and maxima, which go by products."""

    q: Tensor  # (g, m, D) or (N, D)
    shift: Tensor  # (g, m) or (N,): −r √D

    def take(self, rows: slice | Tensor, groups: int) -> FusedQueries:
        """As of `Queries`."""
        return FusedQueries(in_groups(self.q, rows, groups), in_groups(self.shift, rows, groups))

    def begin(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """As of `Queries`."""
        part, lse = _fused(self.q, keys)
        out.copy_(part)
        total.fill_(1)
        torch.mul(lse, -math.sqrt(self.q.shape[-1]), out=self.shift)

    def add(self, keys: Values, bias: Tensor | None, out: Tensor, total: Tensor) -> None:
        """As of `Queries`; with a bias, keys are those for products."""
        if bias is not None:
            self._wide().add(keys, bias, out, total)
            return
        part, lse = _fused(self.q, keys)
        weights = self._weights(lse)
        out.addcmul_(part, weights[..., None])
        total.add_(weights)

    def write(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """As of `Queries`."""
        part, lse = _fused(self.q, keys)
        total.copy_(self._weights(lse))
        torch.mul(part, total[..., None], out=out)

    def peaks(self, keys: Values, bias: Tensor | None) -> Tensor:
        """As of `Queries`."""
        if bias is None:
            keys = Values(widened(keys.keys.transpose(1, 2), 1.0).transpose(1, 2), keys.v)
        return self._wide().peaks(keys, bias)

    def _weights(self, lse: Tensor) -> Tensor:
        return lse.add_(self.shift, alpha=self.q.shape[-1] ** -0.5).mul_(LOG2_E).exp2_()

    def _wide(self) -> Queries:
        return Queries(widened(self.q, self.shift))


def _fused(q: Tensor, keys: Values) -> tuple[Tensor, Tensor]:
    """Fused attention of q (g, m, D): output (g, m, D) and log-sum-exp (g, m)."""
    out, lse = _forward(*(x[:, None] for x in (q, keys.keys.transpose(1, 2), keys.v)))[:2]
    return out[:, 0], lse[:, 0]


class Slopes(NamedTuple):
    """Keys and values for the backward pass, and where their gradients are summed."""

    keys: Tensor  # (g, D + 1, n), the last row 1
    values: Tensor  # (g, D + 1, n), the last row 1
    k: Tensor  # (g, n, D)
    dk: Tensor  # (g, n, D)
    dv: Tensor  # (g, n, D)

    def blocks(self, q: Tensor) -> list[tuple[slice, Slopes]]:
        """Some of the n at a time."""
        return [
            (some, Slopes(*(x[..., some] for x in self[:2]), *(x[:, some] for x in self[2:])))
            for some in _blocks(q, self.keys)
        ]


@dataclass(frozen=True)
class Rows:
    """What the backward pass needs of some queries; of whole rows."""

    q: Tensor  # (g, m, D + 1) or (N, D + 1), the last column −lse √D
    grad: Tensor  # the same, the last column −Σ grad · out
    lowest: float | None  # as of `Queries`

    @classmethod
    def of(cls, q: Tensor, grad: Tensor, out: Tensor, lse: Tensor, *, reach: float) -> Rows:
        """N rows from (h, Q, D) each and log-sum-exps (h, Q); `reach` as for `Queries`."""
        delta = (grad.to(lse.dtype) * out).sum(dim=-1)
        q, grad = widened(q, lse * -math.sqrt(q.shape[-1])), widened(grad, -delta)
        return cls(q.flatten(0, 1), grad.flatten(0, 1), _lowest(q, reach))

    def take(self, rows: slice | Tensor, groups: int) -> Rows:
        """As of `Queries`."""
        return Rows(in_groups(self.q, rows, groups), in_groups(self.grad, rows, groups), self.lowest)

    def write(self, keys: Slopes, dq: Tensor) -> None:
        """Add to the gradients of keys and values; write √D · dq (g, m, D).

        With p = exp(s − lse): dv = pᵀ grad, ds = p (grad · v − grad · out), √D dq = ds k, dk = dsᵀ q / √D.
        """
        if self.q.shape[0] * self.q.shape[1] * keys.k.shape[1] > MOST_LOGITS:
            self.add(keys, None, dq.zero_())
        else:
            torch.bmm(self._slopes(keys), keys.k, out=dq)

    def add(self, keys: Slopes, bias: Tensor | None, dq: Tensor) -> None:
        """The same, adding to √D · dq; bias (m, n), on top of the logits."""
        for some, block in keys.blocks(self.q):
            dq.baddbmm_(self._slopes(block, None if bias is None else bias[:, some]), block.k)

    def _slopes(self, keys: Slopes, bias: Tensor | None = None) -> Tensor:
        p = _exp_logits(self.q, keys.keys, bias, self.lowest)
        keys.dv.baddbmm_(p.transpose(1, 2), self.grad[..., :-1])
        ds = torch.bmm(self.grad, keys.values).mul_(p)
        keys.dk.baddbmm_(ds.transpose(1, 2), self.q[..., :-1], alpha=keys.k.shape[2] ** -0.5)
        return ds


def _exp_logits(q: Tensor, keys: Tensor, bias: Tensor | None, lowest: float | None) -> Tensor:
    logits = torch.empty((*q.shape[:2], keys.shape[2]), dtype=q.dtype)
    logits.baddbmm_(q, keys, beta=0, alpha=exponent_scale(q.shape[2] - 1))  # in base 2
    if bias is not None:
        logits.add_(bias, alpha=LOG2_E)
    elif lowest is not None:
        logits.clamp_(min=lowest)
    return logits.exp2_()


def _lowest(q: Tensor, reach: float) -> float | None:
    """What logits of widened q and keys of norms up to `reach` need not go below, less their references."""
    near = are_near(largest_norm(q[..., :-1]) * reach * exponent_scale(q.shape[-1] - 1))
    return None if near else _LOWEST


def _blocks(q: Tensor, keys: Tensor) -> list[slice]:
    """Keys (g, ·, n) in blocks of equal size, larger ones for few queries (g, m, ·)."""
    count = keys.shape[2]
    step = -(-count // max(1, round(q.shape[:2].numel() * count / MOST_LOGITS)))
    return [slice(begin, begin + step) for begin in range(0, count, step)]
