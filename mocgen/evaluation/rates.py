"""Shares of trials that went well, with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

Z = 1.96  # 95 %


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`hits` of `total` trials; `low` and `high` are the 95 % interval of Wilson (JASA 1927)."""

    hits: int
    total: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """The rate of true ones."""
        listed = list(outcomes)
        return cls(hits=sum(listed), total=len(listed))

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else 0.0

    @property
    def low(self) -> float:
        return self._bounds()[0]

    @property
    def high(self) -> float:
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, float]:
        if not self.total:
            return 0.0, 1.0
        share = Z * Z / self.total
        middle = (self.value + share / 2) / (1 + share)
        reach = Z / (1 + share) * sqrt(self.value * (1 - self.value) / self.total + share / (4 * self.total))
        low, high = max(0.0, middle - reach), min(1.0, middle + reach)
        return min(low, self.value), max(high, self.value)  # at 0 and 1 rounding would pass the value

    def fields(self) -> dict[str, float]:
        """What goes into a JSON file."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "hits": self.hits,
            "total": self.total,
        }


def mean(values: Iterable[float]) -> float:
    """The mean; 0 of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
