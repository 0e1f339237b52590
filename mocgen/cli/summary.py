"""What a finished run prints on stdout: a short summary for people, or one JSON object."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mocgen.cli.options import FormatName
from mocgen.cli.wording import duration, number, plural, shots_and_cuts
from mocgen.settings import Result

if TYPE_CHECKING:
    from mocgen.pipeline import InspectResult


def print_result(result: Result, form: FormatName, *, repeatable: bool) -> None:
    """Prints a run's result; `repeatable`: the video can be made again from what it records."""
    if form == "json":
        typer.echo(json.dumps(_fields(result)))
        return
    _print_video(result)
    name = shlex.quote(str(result.output))
    model = "" if result.model == "embedded" else f" --model {shlex.quote(result.model)}"
    if result.can_be_extended:
        _print_row("go on", f'mocgen extend {name} "what happens next"{model}')
    if repeatable:
        _print_row("look inside", f"mocgen inspect-routing --repeat {name} --out routing")


def print_inspection(inspection: InspectResult, form: FormatName) -> None:
    """Prints what routing did, in words, and where the report is."""
    result = inspection.result
    if form == "json":
        report = {"report_dir": str(inspection.report_dir), "loops": inspection.loops}
        typer.echo(json.dumps((_fields(result) if result else {}) | report | {"summary": inspection.summary}))
        return
    for line in inspection.summary:
        typer.echo(line)
    _print_row("report", str(Path(inspection.report_dir) / "index.html"))


def _print_video(result: Result) -> None:
    size = f"{result.width}x{result.height}"
    length = f"{plural(result.shots, 'shot')}, {number(result.seconds)} s"
    typer.secho(str(result.output), bold=True)
    _print_row("video", f"{size}, {number(result.fps)} fps, {length} ({plural(result.frames, 'frame')})")
    if result.clip_shots:
        _print_row("clip", shots_and_cuts([shot.begin for shot in result.clip_shots]) + " remembered")
    _print_row("seed", str(result.seed))
    _print_row("model", " ".join(part for part in (result.model, result.revision) if part))
    attention = (
        result.attention if result.attention == "dense" else f"{result.attention}, top-k {result.top_k}"
    )
    _print_row("attention", f"{attention}, density {number(result.density, 3)}")
    _print_row("time", duration(result.elapsed_seconds))


def _print_row(name: str, value: str) -> None:
    typer.echo(f"  {typer.style(f'{name:<12}', dim=True)}{value}")


def _fields(result: Result) -> dict[str, object]:
    clip = {"clip_shots": [asdict(shot) for shot in result.clip_shots]} if result.clip_shots else {}
    return {
        "output": str(result.output),
        "frames": result.frames,
        "fps": result.fps,
        "width": result.width,
        "height": result.height,
        "seconds": result.seconds,
        "shots": result.shots,
        "seed": result.seed,
        "model": result.model,
        "revision": result.revision,
        "attention": result.attention,
        "top_k": result.top_k,
        "density": result.density,
        "unknown_words": list(result.unknown_words),
        "read_words": result.read_words,
        "elapsed_seconds": result.elapsed_seconds,
        **clip,
    }
