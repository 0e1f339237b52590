"""`mocgen eval ablations`: small models that learn to remember, each with one thing changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mocgen.cli.options import Debug, Format, Quiet

if TYPE_CHECKING:
    from mocgen.evaluation.ablations.experiment import AblationReport

Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", metavar="NAME", help="One of the variants; repeat for more. Default: all."),
]
Seeds = Annotated[int, typer.Option(metavar="N", help="Models of each variant.")]
Steps = Annotated[int, typer.Option(metavar="N", help="Training steps of each model.")]
Batch = Annotated[int, typer.Option(metavar="N", help="Scenes in a step.")]
Scenes = Annotated[int, typer.Option(metavar="N", help="Scenes to train on.")]
Trials = Annotated[int, typer.Option(metavar="N", help="Returns that are read from each model.")]
Gap = Annotated[int, typer.Option(metavar="N", help="How many shots back the character was seen.")]
TopK = Annotated[int, typer.Option(metavar="K", help="Contexts that each token retrieves once sparse.")]
Width = Annotated[int, typer.Option(metavar="N", help="Width of the models.")]
Depth = Annotated[int, typer.Option(metavar="N", help="Layers of the models.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same settings: same figures.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Also write ablations.json there.")]


def ablations(
    variant: Variants = None,
    seeds: Seeds = 3,
    steps: Steps = 800,
    batch: Batch = 16,
    scenes: Scenes = 3000,
    trials: Trials = 64,
    gap: Gap = 5,
    top_k: TopK = 2,
    width: Width = 192,
    depth: Depth = 4,
    seed: Seed = 0,
    out: Out = None,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Small models trained from scratch, each with one part of the method changed; minutes each."""
    from mocgen.evaluation.ablations.experiment import AblationRequest, run_ablations
    from mocgen.evaluation.ablations.variants import NAMES
    from mocgen.run import load_native_model
    from mocgen.settings import Settings

    request = AblationRequest(
        variants=tuple(variant or NAMES),
        seeds=seeds,
        steps=steps,
        batch=batch,
        scenes=scenes,
        trials=trials,
        gap=gap,
        top_k=top_k,
        width=width,
        depth=depth,
    )
    base = load_native_model(Settings(device="cpu", dtype="fp32"))
    with _bars(quiet=quiet) as on_progress:
        report = run_ablations(base, request, seed=seed, on_progress=on_progress)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "ablations.json").write_text(json.dumps(_fields(report), indent=1) + "\n", encoding="utf-8")
    if format == "json":
        typer.echo(json.dumps(_fields(report)))
        return
    _print(report)


def _fields(report: AblationReport) -> dict[str, object]:
    trials = [
        {
            "variant": trial.variant,
            "seed": trial.seed,
            "exact": trial.exact.fields(),
            "colours": trial.colours.fields(),
            "loss": trial.loss,
        }
        for trial in report.trials
    ]
    return {"request": asdict(report.request), "trials": trials}


def _print(report: AblationReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("variant", "exact", "colours", "loss"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name in report.request.variants:
        losses = [trial.loss for trial in report.trials if trial.variant == name]
        spreads = (report.spread(name, aspect) for aspect in ("exact", "colours"))
        cells = (f"{middle:.2f} ± {spread:.2f}" for middle, spread in spreads)
        table.add_row(name, *cells, f"{sum(losses) / len(losses):.3f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"mean ± standard deviation over {report.request.seeds} seeds", style="dim")


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """One bar, with the time left of the part that is running; nothing where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda part, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, object] = {}

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part)
            bars.update(tasks[part], completed=done, total=total)  # type: ignore[arg-type]

        yield show
