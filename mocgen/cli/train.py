"""`mocgen train`: a model from a configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mocgen.cli.options import Debug, Quiet

if TYPE_CHECKING:
    from mocgen.training.progress import Progress

EXAMPLES = """
Examples:
  mocgen train recipe.toml --out run
  mocgen train recipe.toml --out run --resume
  mocgen train recipe.toml --out run --data clips --init embedded
  torchrun --nproc-per-node 2 -m mocgen train recipe.toml --out run
Then: mocgen generate "..." --model run/model
"""

Config = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, and on what.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for checkpoints, losses and samples.")
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="What to learn from: world (default), or a folder of clips with a captions.jsonl.",
        show_default=False,
    ),
]
Init = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Go on from a model: embedded, a folder, or a Hub repository."),
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar="", help="Go on with the run in DIR where it stopped.")
]


Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="N", min=0, help="Save and pause after N minutes; --resume goes on.", show_default=False
    ),
]


def train(
    config: Config,
    out: Out,
    data: Data = None,
    init: Init = None,
    resume: Resume = False,
    minutes: Minutes = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model: codec, encoded scenes, then the diffusion transformer; stop and resume at any time."""
    with _show_training(quiet=quiet) as on_progress:
        from mocgen.training.run import train as run

        model = run(
            config, out, source=data, init=init, resume=resume, minutes=minutes, on_progress=on_progress
        )
    if model is None:
        typer.echo(f"mocgen: paused; --resume goes on with {out}", err=True)
    elif os.environ.get("RANK", "0") == "0":  # torchrun starts the command several times
        typer.echo(str(model))


@contextmanager
def _show_training(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """One bar per part of the run on a terminal; only notes elsewhere."""
    if quiet:
        yield lambda progress: None
        return
    if not sys.stderr.isatty():
        yield _print_note
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}", style="dim"),
    ]
    with Bars(*columns, console=Console(stderr=True), speed_estimate_period=120) as bars:
        parts = {}

        def show(progress: Progress) -> None:
            if progress.note:
                bars.console.print(f"mocgen: note: {progress.note}", markup=False, highlight=False)
                return
            if progress.part not in parts:
                parts[progress.part] = bars.add_task(progress.part, loss="")
            loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
            bars.update(parts[progress.part], completed=progress.done, total=progress.total, loss=loss)

        yield show


def _print_note(progress: Progress) -> None:
    if progress.note:
        print(f"mocgen: note: {progress.note}", file=sys.stderr)
