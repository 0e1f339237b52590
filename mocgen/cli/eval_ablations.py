"""`mocgen eval ablations`: small models that learn to remember, each with one thing changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mocgen.cli.options import Debug, Format, Quiet

if TYPE_CHECKING:
    from mocgen.evaluation.ablations.record import Record

Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", metavar="NAME", help="One of the variants; repeat for more. Default: all."),
]
Seeds = Annotated[int, typer.Option(metavar="N", help="Models of each variant.")]
Start = Annotated[int, typer.Option(metavar="N", help="Steps of the dense start that variants share.")]
Steps = Annotated[int, typer.Option(metavar="N", help="Steps that each model goes on for.")]
Batch = Annotated[int, typer.Option(metavar="N", help="Scenes in a step.")]
Characters = Annotated[int, typer.Option(metavar="N", help="Characters to train on.")]
Trials = Annotated[int, typer.Option(metavar="N", help="Returns that each model is asked for.")]
Pictures = Annotated[
    int, typer.Option(metavar="N", help="Returns of them that are also drawn, and read as pictures: slow.")
]
Shots = Annotated[int, typer.Option(metavar="N", help="Shots in a scene.")]
TopK = Annotated[int, typer.Option(metavar="K", help="Contexts that each token retrieves once sparse.")]
Width = Annotated[int, typer.Option(metavar="N", help="Width of the models.")]
Depth = Annotated[int, typer.Option(metavar="N", help="Layers of the models.")]
Model = Annotated[
    str, typer.Option(metavar="MODEL", help="Lends codec, words and stem: embedded (default), or a folder.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same settings: same figures.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Keep each model's figures in DIR/ablations.json; goes on."),
]


def ablations(
    variant: Variants = None,
    seeds: Seeds = 3,
    start: Start = 120,
    steps: Steps = 40,
    batch: Batch = 16,
    characters: Characters = 2000,
    trials: Trials = 256,
    pictures: Pictures = 0,
    shots: Shots = 5,
    top_k: TopK = 2,
    width: Width = 128,
    depth: Depth = 4,
    model: Model = "embedded",
    seed: Seed = 0,
    out: Out = None,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Small models, each trained with one part of the method changed: what do they remember?"""
    from mocgen.evaluation.ablations.experiment import Experiment
    from mocgen.evaluation.ablations.record import Record
    from mocgen.evaluation.ablations.request import AblationRequest
    from mocgen.evaluation.ablations.variants import NAMES
    from mocgen.run import load_native_model
    from mocgen.settings import Settings

    request = AblationRequest(
        variants=tuple(variant or NAMES),
        seeds=seeds,
        start=start,
        steps=steps,
        batch=batch,
        characters=characters,
        trials=trials,
        pictures=pictures,
        shots=shots,
        top_k=top_k,
        width=width,
        depth=depth,
    )
    base = load_native_model(Settings(model=model, device="cpu", dtype="fp32"))
    if not base.dit.config.stem_width:
        print(f"mocgen: note: {model} has no stem to lend; without one it takes longer", file=sys.stderr)
    record = Record(request, revision=base.revision, seed=seed, folder=out)
    with _bars(quiet=quiet) as on_progress:
        Experiment(base=base, request=request, seed=seed, on_progress=on_progress).run(
            record.trials, record.add
        )
    if format == "json":
        typer.echo(json.dumps(record.fields()))
        return
    _print(record)


def _print(record: Record) -> None:
    from rich.table import Table

    from mocgen.cli.console import result_console
    from mocgen.evaluation.ablations.request import spread

    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = ("exact", "shape", "pattern", "colours", "forgotten", "gain %", "pictures")
    for heading in ("variant", "seeds", *headings):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name in record.request.variants:
        trials = [trial for trial in record.trials if trial.variant == name]
        columns = (
            [trial.exact.value for trial in trials],
            [trial.shape.value for trial in trials],
            [trial.pattern.value for trial in trials],
            [trial.colours.value for trial in trials],
            [trial.forgotten.value for trial in trials],
            [100 * trial.gain for trial in trials],
            [trial.pictures.value for trial in trials if trial.pictures.total],
        )
        cells = ("{:.2f} ± {:.2f}".format(*spread(values)) if values else "–" for values in columns)
        table.add_row(name, str(len(trials)), *cells)
    console = result_console()
    console.print(table)
    console.print(
        "mean ± standard deviation over seeds of what captions of returning shots are read as, from nearly "
        "pure noise; forgotten: exact with another's past; gain: error of latents saved by the true past",
        style="dim",
    )


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
