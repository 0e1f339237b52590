"""What a scene remembered, in plain words."""

from __future__ import annotations

from .report import RoutingReport
from .statistics import RoutingStatistics, ShotStatistics, remembered, statistics
from .wording import percent

INWARD = 0.9  # share of attention inside the own shot and its captions from which a shot looks at itself
NAMED_SHOTS = 6  # shots told one by one; of longer scenes the most telling ones


def summary(report: RoutingReport, numbers: RoutingStatistics | None = None) -> list[str]:
    """Sentences for the terminal: sources of each shot, the best remembered shot, density, loops.

    Args:
        report: what was recorded.
        numbers: its statistics, if they are known already.
    """
    numbers = numbers or statistics(report)
    routing = [shot for shot in numbers.shots if sum(shot.routed_from) > 0]
    lines = [_source(shot) for shot in _telling(routing)]
    if not routing:
        lines.append("no shot routed to another one; there was nothing to remember")
    lines += _best_remembered(report)
    lines += _inward(routing)
    if routing:
        past = sum(shot.share.routed_past + shot.share.future for shot in routing) / len(routing)
        lines.append(f"on average {percent(past)} of the attention of these shots went to other shots")
    lines.append(f"{percent(numbers.density)} of the (query, key) pairs of the scene so far were attended")
    lines.append(_loops(numbers))
    return lines


def _telling(shots: list[ShotStatistics]) -> list[ShotStatistics]:
    """All shots, or of many those with the clearest source; shots with one candidate tell nothing."""
    choosing = [shot for shot in shots if sum(share > 0 for share in shot.routed_from) > 1]
    clearest = sorted(choosing, key=lambda shot: max(shot.routed_from), reverse=True)[:NAMED_SHOTS]
    return sorted(clearest, key=lambda shot: shot.shot)


def _source(shot: ShotStatistics) -> str:
    best = max(range(len(shot.routed_from)), key=lambda index: shot.routed_from[index])
    share = shot.routed_from[best]
    return f"shot {shot.shot + 1} took {percent(share)} of its routed attention from shot {best + 1}"


def _best_remembered(report: RoutingReport) -> list[str]:
    received = remembered(report)
    best = max(range(len(received)), key=lambda shot: received[shot])
    if received[best] == 0:
        return []
    return [
        f"shot {best + 1} is remembered most: {percent(received[best])} of all routed attention went to it"
    ]


def _inward(routing: list[ShotStatistics]) -> list[str]:
    inward = [shot.shot + 1 for shot in routing if shot.share.captions + shot.share.own_shot >= INWARD]
    if not inward:
        return []
    if len(inward) == 1:
        return [f"shot {inward[0]} looked mostly at itself"]
    listed = ", ".join(str(shot) for shot in inward[:-1])
    return [f"shots {listed} and {inward[-1]} looked mostly at themselves"]


def _loops(numbers: RoutingStatistics) -> str:
    if numbers.loops == 0:
        return "no two shots routed to each other: memory flows one way"
    pairs = ", ".join(f"{first + 1}↔{second + 1}" for first, second in numbers.loop_pairs[:5])
    more = ", …" if numbers.loops > 5 else ""
    noun = "pair of shots" if numbers.loops == 1 else "pairs of shots"
    return f"{numbers.loops} {noun} routed to each other ({pairs}{more})"
