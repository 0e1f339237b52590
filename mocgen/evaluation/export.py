"""Reports → JSON and pictures in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mocgen.errors import OutputError
from mocgen.settings import Settings

from .captions import CaptionReport
from .rates import Rate
from .recall import RecallFigures, RecallReport
from .rollout import RolloutReport

FILES = {
    "recall": ("recall.json", "recall.png", "recall-returns.png"),
    "captions": ("captions.json", "captions.png", "captions-sheet.png"),
    "rollout": ("rollout.json", "rollout.png", "rollout-strip.png"),
}


def check_files(folder: Path, name: str, *, overwrite: bool) -> None:
    """Raise OutputError if the files of a benchmark cannot go to a folder; call it before a long run."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; name another one for the report")
    there = [file for file in FILES[name] if (folder / file).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder / there[0]} exists; name another folder or pass --overwrite")


def write_recall(report: RecallReport, folder: Path) -> None:
    """Write recall.json and two pictures. Raises OutputError if that fails."""
    from .plots import draw_recall
    from .sheets import draw_returns

    paths = _begin(folder, "recall", recall_fields(report))
    draw_recall(report, paths[1])
    draw_returns(report, paths[2])


def write_captions(report: CaptionReport, folder: Path) -> None:
    """Write captions.json and two pictures. Raises OutputError if that fails."""
    from .plots import draw_captions
    from .sheets import draw_caption_sheet

    paths = _begin(folder, "captions", caption_fields(report))
    draw_captions(report, paths[1])
    draw_caption_sheet(report, paths[2])


def write_rollout(report: RolloutReport, folder: Path) -> None:
    """Write rollout.json and two pictures. Raises OutputError if that fails."""
    from .plots import draw_rollout
    from .sheets import draw_strip

    paths = _begin(folder, "rollout", rollout_fields(report))
    draw_rollout(report, paths[1])
    draw_strip(report, paths[2])


def _begin(folder: Path, name: str, fields: dict[str, object]) -> list[Path]:
    """Make the folder, write the JSON file, and name all files."""
    paths = [folder / file for file in FILES[name]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {paths[0]}: {error.strerror}") from error
    return paths


def recall_fields(report: RecallReport) -> dict[str, object]:
    """What stands in recall.json."""
    request = report.request
    return {
        **_header(report.settings, report.revision, report.steps),
        "samples_per_gap": request.samples,
        "history": request.history,
        "ceiling": _rates(report.ceiling),
        "chance": report.chance,
        "ways": {
            way: {
                "gaps": {str(gap): _figures(report.of(way, gap)) for gap in request.gaps},
                "all": _figures(report.of(way)),
            }
            for way in request.ways
        },
        "elapsed_seconds": report.elapsed_seconds,
    }


def caption_fields(report: CaptionReport) -> dict[str, object]:
    """What stands in captions.json."""
    return {
        **_header(report.settings, report.revision, report.steps),
        "samples": report.samples,
        "prompts": report.prompts,
        "rates": _rates(report.rates),
        "false_readings": report.false_readings.fields() if report.false_readings else None,
        "ceiling": _rates(report.ceiling),
        "confusions": [
            {"attribute": attribute, "asked": asked, "shown": shown, "times": times}
            for attribute, asked, shown, times in report.confusions
        ],
        "elapsed_seconds": report.elapsed_seconds,
    }


def rollout_fields(report: RolloutReport) -> dict[str, object]:
    """What stands in rollout.json."""
    return {
        **_header(report.settings, report.revision, report.steps),
        "attention": report.settings.attention,
        "top_k": report.settings.top_k,
        "shots": report.shots,
        "rollouts": report.rollouts,
        "drift": {"value": report.drift, "low": report.drift_low, "high": report.drift_high},
        "recall": [_stretch(*stretch) for stretch in report.recall],
        "colours": [_stretch(*stretch) for stretch in report.colours],
        "cuts_found": report.cuts_found.fields(),
        "steady": report.steady.fields(),
        "brightness": [[shot.brightness for shot in shots] for shots in report.rolled],
        "elapsed_seconds": report.elapsed_seconds,
    }


def _header(settings: Settings, revision: str, steps: int) -> dict[str, object]:
    names = ("model", "seed", "guidance", "dtype")
    known = asdict(settings)
    return {"revision": revision, "steps": steps} | {name: known[name] for name in names}


def _rates(rates: Mapping[str, Rate]) -> dict[str, dict[str, float]]:
    return {name: rate.fields() for name, rate in rates.items()}


def _figures(figures: RecallFigures) -> dict[str, object]:
    names = ("density", "found", "found_best", "gflops", "seconds")
    return _rates(figures.rates) | {name: getattr(figures, name) for name in names}


def _stretch(first: int, last: int, rate: Rate) -> dict[str, float]:
    return {"first": first, "last": last} | rate.fields()
