"""What can be asked of the benchmarks; refused here, before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mocgen.errors import UsageError

from .ways import QUICK_WAYS, WAYS, read_way

HistoryKind = Literal["rendered", "generated"]
PromptsName = Literal["world", "open"]
LONGEST_GAP = 40  # shots
MOST_SHOTS = 2000  # of a roll-out
STEPS = 16  # of denoising, unless the user says otherwise


@dataclass(frozen=True, kw_only=True)
class RecallRequest:
    """Returns over each of the gaps, in each of the ways. Raises UsageError for what cannot be measured."""

    ways: tuple[str, ...] = WAYS
    gaps: tuple[int, ...] = (1, 4, 8, 15)
    samples: int = 12  # scenes for each gap
    history: HistoryKind = "rendered"

    def __post_init__(self) -> None:
        for way in self.ways:
            read_way(way)
        if not self.ways or not self.gaps:
            raise UsageError("a recall benchmark needs an --attention and a gap at least")
        if len(set(self.ways)) < len(self.ways) or len(set(self.gaps)) < len(self.gaps):
            raise UsageError("an --attention or a gap was given twice")
        for gap in self.gaps:
            _check_count(gap, "a gap", LONGEST_GAP)
        _check_count(self.samples, "samples", 100_000)


@dataclass(frozen=True, kw_only=True)
class CaptionsRequest:
    """This many single shots. Raises UsageError for a number that makes no sense.

    Captions of the world, or prompts in words that it does not use, of which there is a fixed list.
    """

    samples: int = 100
    prompts: PromptsName = "world"

    def __post_init__(self) -> None:
        _check_count(self.samples, "samples", 100_000)


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """Roll-outs of this many shots. Raises UsageError for numbers that make no sense."""

    shots: int = 60
    samples: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.shots <= MOST_SHOTS:
            raise UsageError(f"shots must be from 2 to {MOST_SHOTS}, not {self.shots}")
        _check_count(self.samples, "samples", 10_000)


def _check_count(value: int, name: str, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{name} must be from 1 to {most}, not {value}")


QUICK_RECALL = RecallRequest(ways=QUICK_WAYS, gaps=(1, 8), samples=4)
QUICK_CAPTIONS = CaptionsRequest(samples=40)
QUICK_ROLLOUT = RolloutRequest(shots=30, samples=1)
