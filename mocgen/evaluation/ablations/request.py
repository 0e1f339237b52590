"""What to train and measure, and what came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from mocgen.errors import UsageError

from ..rates import Rate
from .variants import NAMES, find_variant

READINGS = ("exact", "shape", "pattern", "colours")


@dataclass(frozen=True, kw_only=True)
class AblationRequest:
    """What to train and measure. Raises UsageError for what makes no sense."""

    variants: tuple[str, ...] = NAMES
    seeds: int = 3
    start: int = 120  # steps of the start that the variants of a seed share
    steps: int = 40  # that each goes on for
    batch: int = 16  # scenes in a step
    characters: int = 2000  # to train on
    trials: int = 256  # returns that are read from the captions
    pictures: int = 0  # returns that are drawn and read by the nearest rendering
    shots: int = 5  # in a scene; a character is seen anywhere before the last
    top_k: int = 2
    width: int = 128
    depth: int = 4
    patch: int = 4  # latents on each side of a token

    def __post_init__(self) -> None:
        for name in self.variants:
            find_variant(name)
        for name in ("seeds", "start", "steps", "batch", "top_k"):
            self._at_least(name, 1)
        for name in ("characters", "trials", "shots", "depth"):
            self._at_least(name, 2)
        self._at_least("pictures", 0)
        if self.pictures > self.trials:
            raise UsageError(f"pictures must not exceed trials, which is {self.trials}")
        if self.width < 1 or self.width % 64:
            raise UsageError(f"width must be a multiple of 64, not {self.width}")

    def _at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise UsageError(f"{name.replace('_', '-')} must be {least} at least, not {getattr(self, name)}")

    def fields(self) -> dict[str, Any]:
        """What must agree for two runs to be parts of one: all but which models there are."""
        return {name: value for name, value in asdict(self).items() if name not in ("variants", "seeds")}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One small model.

    exact, shape, pattern, colours: shares of the returns whose caption was read out as their true look, from
    nearly pure noise. forgotten: exact, with another character's past. gain: the share of the error of the
    predicted latents after another's past that the true past saves. pictures: exact looks of drawn frames.
    loss: mean of the last steps.
    """

    variant: str
    seed: int
    exact: Rate
    shape: Rate
    pattern: Rate
    colours: Rate
    forgotten: Rate
    gain: float
    pictures: Rate
    loss: float
    seconds: float  # of processor time

    def fields(self) -> dict[str, Any]:
        """What goes into a JSON file."""
        return {
            name: value.fields() if isinstance(value, Rate) else value for name, value in vars(self).items()
        }


def read_trial(fields: dict[str, Any]) -> Trial:
    """Undo `Trial.fields`."""
    rates = {
        name: Rate(hits=value["hits"], total=value["total"])
        for name, value in fields.items()
        if isinstance(value, dict)
    }
    return Trial(**(fields | rates))


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation; the latter is 0 of a single value."""
    listed = list(values)
    return fmean(listed), stdev(listed) if len(listed) > 1 else 0.0
