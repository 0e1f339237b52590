"""`mocgen eval`: how well a model remembers and follows its captions, measured against the exact world."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from mocgen.cli.eval_ablations import ablations
from mocgen.cli.options import Debug, Format, FormatName, Quiet
from mocgen.errors import UsageError
from mocgen.evaluation.requests import (
    QUICK_CAPTIONS,
    QUICK_RECALL,
    QUICK_ROLLOUT,
    STEPS,
    CaptionsRequest,
    PromptsName,
    RecallRequest,
    RolloutRequest,
)
from mocgen.settings import AttentionName, DeviceName, DtypeName, Settings

if TYPE_CHECKING:
    from mocgen.bundle import NativeModel

T = TypeVar("T")

EXAMPLES = """
Examples:
  mocgen eval recall --quick
  mocgen eval recall --attention dense --attention moc-2 --gaps 8 --samples 50 --out results
  mocgen eval captions --samples 200 --out results
  mocgen eval rollout --shots 60 --model run/model --out results
"""

app = typer.Typer(
    help="Measure a model: what it remembers, how it follows captions, and whether long scenes drift.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command()(ablations)

Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Also write JSON and pictures to this folder.")
]
Quick = Annotated[bool, typer.Option("--quick", metavar="", help="A rough figure in about a minute.")]
Samples = Annotated[
    int | None, typer.Option(metavar="N", help="Scenes to try (recall: for each gap). More: surer figures.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same settings: same figures.")]
Steps = Annotated[int, typer.Option(metavar="N", help="Denoising steps per shot.")]
Guidance = Annotated[
    float | None, typer.Option(metavar="G", help="How closely to follow captions. Default: the model's.")
]
Model = Annotated[str, typer.Option(metavar="MODEL", help="embedded (default), OWNER/NAME, or a folder.")]
Device = Annotated[DeviceName, typer.Option(metavar="NAME", help="auto (default), cpu or cuda.")]
Dtype = Annotated[DtypeName, typer.Option(metavar="NAME", help="auto (default), fp32 or bf16.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", help="Replace the files of an earlier run in DIR.")
]
Attentions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A row of the table; repeat for more: dense, moc-2 (any budget), window-4, random-4, "
        "first-frame, none (no history), named (the caption names the look), "
        "clip (history from a video file), clip-captions (with captions for its shots).",
    ),
]
Gaps = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="How many shots back the character was seen. Default: 1,4,8,15."),
]
History = Annotated[
    Literal["rendered", "generated"] | None,
    typer.Option(metavar="NAME", help="rendered (default) shots are remembered, or generated ones."),
]
Prompts = Annotated[
    PromptsName,
    typer.Option(
        metavar="NAME", help="world (default): captions in its words, or open: 40 prompts in others."
    ),
]
Shots = Annotated[int | None, typer.Option(metavar="N", help="Length of a roll-out. Default: 60.")]
OneAttention = Annotated[
    AttentionName, typer.Option(metavar="NAME", help="moc (default), dense, window, first-frame, random.")
]
TopK = Annotated[int | None, typer.Option(metavar="K", help="How many contexts each token retrieves.")]


@app.command()
def recall(
    attention: Attentions = None,
    gaps: Gaps = None,
    samples: Samples = None,
    history: History = None,
    quick: Quick = False,
    seed: Seed = 0,
    steps: Steps = STEPS,
    guidance: Guidance = None,
    model: Model = "embedded",
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Out = None,
    overwrite: Overwrite = False,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """A character comes back whose look stands in no caption: is it the same one?"""
    base = QUICK_RECALL if quick else RecallRequest()
    request = RecallRequest(
        ways=tuple(attention or base.ways),
        gaps=_numbers(gaps) if gaps is not None else base.gaps,
        samples=base.samples if samples is None else samples,
        history=history or base.history,
    )
    settings = Settings(model=model, seed=seed, steps=steps, guidance=guidance, device=device, dtype=dtype)
    from mocgen.cli.eval_tables import print_recall

    with _prepared("recall", settings, out, overwrite=overwrite, quiet=quiet) as (loaded, on_progress):
        from mocgen.evaluation.export import recall_fields, write_recall
        from mocgen.evaluation.recall import measure_recall

        report = measure_recall(loaded, request, settings, on_progress=on_progress)
    _hand_over(report, out, format, recall_fields, write_recall, print_recall)


@app.command()
def captions(
    samples: Samples = None,
    prompts: Prompts = "world",
    quick: Quick = False,
    seed: Seed = 0,
    steps: Steps = STEPS,
    guidance: Guidance = None,
    model: Model = "embedded",
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Out = None,
    overwrite: Overwrite = False,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Single shots of combinations never trained on: are place, colours, shape, motion and pattern right?"""
    base = QUICK_CAPTIONS if quick else CaptionsRequest()
    request = CaptionsRequest(samples=base.samples if samples is None else samples, prompts=prompts)
    settings = Settings(model=model, seed=seed, steps=steps, guidance=guidance, device=device, dtype=dtype)
    from mocgen.cli.eval_tables import print_captions

    with _prepared("captions", settings, out, overwrite=overwrite, quiet=quiet) as (loaded, on_progress):
        from mocgen.evaluation.captions import measure_captions
        from mocgen.evaluation.export import caption_fields, write_captions

        report = measure_captions(loaded, request, settings, on_progress=on_progress)
    _hand_over(report, out, format, caption_fields, write_captions, print_captions)


@app.command()
def rollout(
    shots: Shots = None,
    samples: Samples = None,
    attention: OneAttention = "moc",
    top_k: TopK = None,
    quick: Quick = False,
    seed: Seed = 0,
    steps: Steps = STEPS,
    guidance: Guidance = None,
    model: Model = "embedded",
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Out = None,
    overwrite: Overwrite = False,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Long scenes: does brightness drift, does the hero stay the same, are cuts where shots end?"""
    base = QUICK_ROLLOUT if quick else RolloutRequest()
    request = replace(base, shots=shots if shots is not None else base.shots)
    request = replace(request, samples=samples if samples is not None else base.samples)
    settings = Settings(model=model, seed=seed, steps=steps, guidance=guidance, device=device, dtype=dtype)
    settings = replace(settings, attention=attention, top_k=top_k)
    from mocgen.cli.eval_tables import print_rollout

    with _prepared("rollout", settings, out, overwrite=overwrite, quiet=quiet) as (loaded, on_progress):
        from mocgen.evaluation.export import rollout_fields, write_rollout
        from mocgen.evaluation.rollout import measure_rollout

        report = measure_rollout(loaded, request, settings, on_progress=on_progress)
    _hand_over(report, out, format, rollout_fields, write_rollout, print_rollout)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"gaps must be whole numbers with commas between them, not {text!r}") from None


@contextmanager
def _prepared(
    name: str, settings: Settings, out: Path | None, *, overwrite: bool, quiet: bool
) -> Iterator[tuple[NativeModel, Callable[[int, int], None]]]:
    """The loaded model, and what shows the progress; a folder that will not do is refused before."""
    from mocgen.evaluation.export import check_files
    from mocgen.run import load_native_model

    if out is not None:
        check_files(out, name, overwrite=overwrite)
    loaded = load_native_model(settings)
    with _bar(quiet=quiet) as on_progress:
        yield loaded, on_progress


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("shots"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bars:
        task = bars.add_task("shots")
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _hand_over(
    report: T,
    out: Path | None,
    form: FormatName,
    fields: Callable[[T], dict[str, object]],
    write: Callable[[T, Path], None],
    show: Callable[[T], None],
) -> None:
    """Write a report's files, and print it as JSON or as a table."""
    if out is not None:
        write(report, out)
    if form == "json":
        typer.echo(json.dumps(fields(report)))
        return
    show(report)
    if out is not None:
        typer.echo(f"JSON and pictures: {out}")
