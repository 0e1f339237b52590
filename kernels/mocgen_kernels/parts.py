"""Attention of some queries to some keys, relative to a number per query: parts that only have to be added.

With a reference r per query, the numerator Σ exp(s − r) v and the denominator Σ exp(s − r) of its softmax are
sums over its keys, so parts of a row need no merging. Any r near the highest logit s will do: with one too
low exp overflows, with one too high all of it vanishes. Mostly 0 will do; the denominators tell if not.

Two matrix products with exp between them are faster than fused attention, which looks for maxima on its way,
and r costs little: queries get one more dimension, which holds −r, and keys a 1. (If the forward and the
backward pass subtracted r in different ways they would round differently, and gradients of far-away logits be
80 times as wrong.) Products of 16 bits would round the logits, so there fused attention takes their place.

Powers are of 2: exp of torch is MKL's, which on AMD takes three times as long as exp2, and everywhere 30 to
200 times as long near 1e-38. The factor log₂ e / √D is left to the products, which apply it last; so within
products references are kept times √D.

Everything here is of g groups of queries, each with keys of its own: keys transposed, (g, D, n) or, for
references, (g, D + 1, n), the last row 1. What groups are taken from are N rows in one dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mocgen_kernels.blocks import Scratch

MOST_LOGITS = 1 << 20  # that exist at a time
LOG2_E = 1 / math.log(2)
_FAR = 100.0  # at most, where logits may be far below references: 2^x slows below 2⁻¹²⁶
_ABOVE = 1.0  # at most, by rounding: to cut them off at 0 would undo that both passes round alike
_LEAST, _MOST = 2.0**-60, 2.0**90  # of denominators
scratch = Scratch()  # kept from call to call
_Index = slice | tuple[slice, ...]
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def is_fused(dtype: torch.dtype) -> bool:
    """Whether the forward pass in this dtype is left to fused attention."""
    return dtype.itemsize < 4


def precise(x: Tensor) -> torch.dtype:
    """What sums are kept in: fp32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def widened(x: Tensor, last: float | Tensor) -> Tensor:
    """(..., D), and in one more dimension `last` (...): (..., D + 1), fp32 at least."""
    wide = x.new_empty((*x.shape[:-1], x.shape[-1] + 1), dtype=precise(x))
    wide[..., :-1] = x
    wide[..., -1] = last
    return wide


def are_sound(totals: Tensor) -> bool:
    """Whether denominators show that their references were near the highest logits."""
    least, most = totals.aminmax()
    return bool(least > _LEAST) and bool(most < _MOST)


def largest_norm(x: Tensor) -> float:
    """Of rows (..., D)."""
    return float(torch.linalg.vector_norm(x, dim=-1).amax())


def with_rows(x: Tensor) -> Tensor:
    """The same, numbers of a row next to each other: fused attention takes nothing else."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _with_zeros(x: Tensor, last: Tensor) -> Tensor:
    """N rows (…, D), widened by `last` (…), and one of zeros: (N + 1, D + 1)."""
    rows = x.new_empty(last.numel() + 1, x.shape[-1] + 1, dtype=precise(x))
    some = rows[:-1].view(*last.shape, -1)
    some[..., :-1] = x
    some[..., -1] = last
    rows[-1] = 0
    return rows


def in_groups(x: Tensor, rows: slice | Tensor, groups: int) -> Tensor:
    """Rows of (N, …) in groups, neighbours as a view: (g, m, …). Beyond N the last row."""
    some = x[rows] if isinstance(rows, slice) else x.index_select(0, rows.clamp(max=len(x) - 1))
    return some.unflatten(0, (groups, -1))


class Values(NamedTuple):
    """Keys and values for the forward pass."""

    keys: Tensor  # (g, D, n) or (g, D + 1, n)
    v: Tensor  # (g, n, D)

    def with_row(self) -> Values:
        """The same for references."""
        return Values(widened(self.keys.transpose(1, 2), 1.0).transpose(1, 2), self.v)

    def blocks(self, q: Tensor) -> list[tuple[slice, Values]]:
        """Some of the n at a time."""
        return [(some, Values(self.keys[..., some], self.v[:, some])) for some in _blocks(q, self.keys)]


@dataclass(frozen=True)
class Queries:
    """Queries with their references, for products."""

    q: Tensor  # (g, m, D) or (N, D); with references D + 1, the last column −r √D
    referenced: bool = False

    @classmethod
    def of(cls, q: Tensor) -> Queries | FusedQueries:
        """N rows (…, D), with references of 0."""
        rows = with_rows(q).flatten(0, -2)
        if is_fused(q.dtype):
            return FusedQueries(rows, rows.new_zeros(len(rows), dtype=precise(q)))
        return cls(rows)

    @property
    def reference(self) -> Tensor:
        """r: (g, m) or (N,)."""
        if not self.referenced:
            return self.q.new_zeros(()).expand(self.q.shape[:-1])
        return self.q[..., -1] * -((self.q.shape[-1] - 1) ** -0.5)

    def relative_to(self, reference: Tensor) -> Queries:
        """The same relative to other references (N,)."""
        return Queries(widened(self.q, reference * -math.sqrt(self.q.shape[-1])), referenced=True)

    def take(self, rows: slice | Tensor, groups: int) -> Queries:
        """Some of N rows in groups: neighbours, as a view, or those of given numbers."""
        return Queries(in_groups(self.q, rows, groups), self.referenced)

    def __getitem__(self, some: _Index) -> Queries:
        return Queries(self.q[some], self.referenced)

    def write(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """Write numerators (g, m, D) and denominators (g, m)."""
        logits = self.q.shape[1] * keys.keys.shape[2]  # of a group
        if logits > MOST_LOGITS:
            self.add(keys, None, out.zero_(), total.zero_())
        elif len(shares := shares_of(len(self.q), logits)) > 1:
            for some in shares:
                self[some].write(Values(*(x[some] for x in keys)), out[some], total[some])
        else:
            weights = self.weights(keys)
            torch.sum(weights, dim=-1, out=total)
            torch.bmm(weights, keys.v, out=out)

    def add(self, keys: Values, bias: Tensor | None, out: Tensor, total: Tensor) -> None:
        """Add to numerators and denominators; bias (m, n), on top of the logits."""
        for some, block in keys.blocks(self.q):
            weights = self.weights(block, None if bias is None else bias[:, some])
            out.baddbmm_(weights, block.v)
            total.add_(weights.sum(dim=-1))

    def peaks(self, keys: Values, bias: Tensor | None) -> Tensor:
        """The highest logits, less their references: (g, m)."""
        peaks = self.q.new_full(self.q.shape[:2], -torch.inf)
        for some, block in keys.blocks(self.q):
            logits = self.logits(block)
            logits = logits if bias is None else logits.add_(bias[:, some])
            torch.maximum(peaks, logits.amax(dim=-1), out=peaks)
        return peaks

    def logits(self, keys: Values) -> Tensor:
        """Logits less references, (g, m, n), until the next products."""
        return _products(self.q, keys.keys, keys.v.shape[2] ** -0.5)

    def weights(self, keys: Values, bias: Tensor | None = None) -> Tensor:
        """exp of logits less references, (g, m, n), until the next products; bias (m, n): added to logits."""
        return _exp_logits(self.q, keys.keys, keys.v.shape[2], bias, far=self.referenced)


@dataclass(frozen=True)
class FusedQueries:
    """The same for fused attention, but for means of contexts, which go by products."""

    q: Tensor  # (g, m, D) or (N, D)
    reference: Tensor  # r: (g, m) or (N,)
    referenced: ClassVar[bool] = False  # as far as keys are concerned

    def relative_to(self, reference: Tensor) -> FusedQueries:
        """As of `Queries`."""
        return FusedQueries(self.q, reference)

    def take(self, rows: slice | Tensor, groups: int) -> FusedQueries:
        """As of `Queries`."""
        return FusedQueries(in_groups(self.q, rows, groups), in_groups(self.reference, rows, groups))

    def write(self, keys: Values, out: Tensor, total: Tensor) -> None:
        """As of `Queries`."""
        part, lse = _fused(self.q, keys)
        torch.exp(lse.sub_(self.reference), out=total)
        torch.mul(part, total[..., None], out=out)

    def add(self, keys: Values, bias: Tensor | None, out: Tensor, total: Tensor) -> None:
        """As of `Queries`; with a bias, keys are those for products."""
        if bias is not None:
            self._for_products().add(keys, bias, out, total)
            return
        part, lse = _fused(self.q, keys)
        weights = lse.sub_(self.reference).exp_()
        out.addcmul_(part, weights[..., None])
        total.add_(weights)

    def peaks(self, keys: Values, bias: Tensor | None) -> Tensor:
        """As of `Queries`; log-sum-exps without a bias, which will do as well."""
        if bias is not None:
            return self._for_products().peaks(keys, bias)
        return _fused(self.q, keys)[1].sub_(self.reference)

    def _for_products(self) -> Queries:
        return Queries(self.q.to(self.reference.dtype)).relative_to(self.reference)


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
    far: bool  # whether logits may be far below lse

    @classmethod
    def of(cls, q: Tensor, grad: Tensor, out: Tensor, lse: Tensor, *, reach: float) -> Rows:
        """N rows from (…, D) each and log-sum-exps (…), and one of zeros.

        reach: at least the norm of every key.
        """
        delta = (grad.to(lse.dtype) * out).sum(dim=-1)
        scale = q.shape[-1] ** -0.5 * LOG2_E
        far = not 2 * largest_norm(q) * reach * scale < _FAR
        return cls(_with_zeros(q, lse * -math.sqrt(q.shape[-1])), _with_zeros(grad, -delta), far)

    def take(self, rows: slice | Tensor, groups: int) -> Rows:
        """As of `Queries`."""
        return Rows(in_groups(self.q, rows, groups), in_groups(self.grad, rows, groups), self.far)

    def __getitem__(self, some: _Index) -> Rows:
        return Rows(self.q[some], self.grad[some], self.far)

    def write(self, keys: Slopes, dq: Tensor) -> None:
        """Add to the gradients of keys and values; write √D · dq (g, m, D).

        With p = exp(s − lse): dv = pᵀ grad, ds = p (grad · v − grad · out), √D dq = ds k, dk = dsᵀ q / √D.
        """
        logits = self.q.shape[1] * keys.keys.shape[2]  # of a group
        if logits > MOST_LOGITS:
            self.add(keys, None, dq.zero_())
        elif len(shares := shares_of(len(self.q), logits)) > 1:
            for some in shares:
                self[some].write(Slopes(*(x[some] for x in keys)), dq[some])
        else:
            torch.bmm(self.slopes(keys), keys.k, out=dq)

    def add(self, keys: Slopes, bias: Tensor | None, dq: Tensor) -> None:
        """The same, adding to √D · dq; bias (m, n), on top of the logits."""
        for some, block in keys.blocks(self.q):
            dq.baddbmm_(self.slopes(block, None if bias is None else bias[:, some]), block.k)

    def slopes(
        self, keys: Slopes, bias: Tensor | None = None, mask: Callable[[Tensor], object] | None = None
    ) -> Tensor:
        """ds (g, m, n), until the next ones; adds to the gradients of keys and values.

        mask: sets p to 0 where a query does not attend.
        """
        p = _exp_logits(self.q, keys.keys, keys.k.shape[2], bias, far=self.far)
        if mask is not None:
            mask(p)
        add_products(keys.dv, p.transpose(1, 2), self.grad[..., :-1])
        ds = torch.bmm(self.grad, keys.values, out=scratch.take("slopes", p.shape, p.dtype)).mul_(p)
        add_products(keys.dk, ds.transpose(1, 2), self.q[..., :-1], keys.k.shape[2] ** -0.5)
        return ds


def _exp_logits(q: Tensor, keys: Tensor, dim: int, bias: Tensor | None, *, far: bool) -> Tensor:
    logits = _products(q, keys, dim**-0.5 * LOG2_E)  # in base 2
    if bias is not None:
        logits.add_(bias, alpha=LOG2_E)
    elif far:
        logits.clamp_(min=-_FAR, max=_ABOVE)
    return logits.exp2_()


def add_products(out: Tensor, x: Tensor, y: Tensor, scale: float = 1.0) -> None:
    """Add scale · x y to `out` (g, m, n), each group in one thread of torch.

    In that thread are exp and sums too; cores that take turns at the same weights wait for each other, and
    products take up to 1.7 times as long. Where groups of `out` are not next to each other, torch would let
    all threads work on one after the other.
    """
    if out.is_contiguous():
        out.baddbmm_(x, y, alpha=scale)
    else:
        out.add_(torch.bmm(x, y), alpha=scale)


def _products(q: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Of q (g, m, D) and keys with any number of rows, or q (g, m, D + 1): (g, m, n), until the next ones."""
    products = scratch.take("products", (*q.shape[:2], keys.shape[2]), q.dtype)
    return products.baddbmm_(q, keys[:, : q.shape[2]], beta=0, alpha=scale)


def shares_of(groups: int, logits: int) -> list[slice]:
    """Groups of so many logits each, as many as may exist at a time."""
    step = -(-groups // -(-groups // max(1, MOST_LOGITS // logits)))
    step += -step % torch.get_num_threads()  # each thread works on whole groups
    return [slice(begin, begin + step) for begin in range(0, groups, step)]


def _blocks(q: Tensor, keys: Tensor) -> list[slice]:
    """Keys (g, ·, n) in blocks of equal size, larger ones for few queries (g, m, ·)."""
    count = keys.shape[2]
    step = -(-count // max(1, round(q.shape[:2].numel() * count / MOST_LOGITS)))
    return [slice(begin, begin + step) for begin in range(0, count, step)]
