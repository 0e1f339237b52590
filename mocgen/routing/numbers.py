"""The statistics of a report as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from .report import RoutingReport
from .statistics import RoutingStatistics

DIGITS = 6


def to_json(
    report: RoutingReport,
    numbers: RoutingStatistics,
    summary: Sequence[str],
    captions: Sequence[str],
    settings: Mapping[str, object],
) -> str:
    """All numbers of a report as a JSON object.

    Shots, layers, heads and contexts count from 0, as in the tensors; only the summary's words count
    shots from 1. Shares and densities lie between 0 and 1, entropies are in nats, distances in shots;
    null stands where nothing was routed.
    """
    document = {
        "numbering": "shots, layers, heads and contexts count from 0; the summary counts shots from 1",
        "settings": dict(settings),
        "captions": list(captions),
        "summary": list(summary),
        "layers": report.layers,
        "heads": report.heads,
        "contexts": [asdict(label) for label in report.contexts],
        "density": numbers.density,
        "loops": numbers.loops,
        "loop_pairs": numbers.loop_pairs,
        "loops_by_head": numbers.loops_by_head,
        "shots": [asdict(shot) for shot in numbers.shots],
        "per_head": [asdict(entry) for entry in numbers.heads],
    }
    return json.dumps(_rounded(document), ensure_ascii=False, indent=1, default=str, allow_nan=False) + "\n"


def _rounded(value: object) -> object:
    """The same tree with floats cut to a few digits."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return value
