"""What `mocgen eval` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mocgen.cli.console import result_console
from mocgen.cli.wording import duration, plural
from mocgen.evaluation.ways import read_way

if TYPE_CHECKING:
    from mocgen.evaluation.captions import CaptionReport
    from mocgen.evaluation.rates import Rate
    from mocgen.evaluation.recall import RecallReport
    from mocgen.evaluation.rollout import RolloutReport

HEADINGS = (
    "exact, 95 %", "any order", "shape", "pattern", "colours", "density", "→ seen", "GFLOP", "s/shot",
)  # fmt: skip
ASPECTS = ("any_order", "shape", "pattern", "colours")  # beside the exact look


def print_recall(report: RecallReport) -> None:
    """A row for each way to choose contexts."""
    request = report.request
    total = plural(request.samples * len(request.gaps), "scene")
    title = f"recall of a look that stands in no caption, {total}, gaps in shots"
    table = _table("attention", title)
    for gap in request.gaps:
        table.add_column(f"gap {gap}", justify="right")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for way in request.ways:
        whole, far = report.of(way), report.of(way, max(request.gaps))
        table.add_row(
            way,
            *(_share(report.of(way, gap).rates["exact"].value) for gap in request.gaps),
            _interval(whole.rates["exact"]),
            *(_share(whole.rates[aspect].value) for aspect in ASPECTS),
            f"{far.density:.2f}",
            "–" if read_way(way).past == "none" else f"{far.found:.2f}/{far.found_best:.2f}",
            f"{far.gflops:.2f}",
            f"{far.seconds:.2f}",
        )
    blank = [""] * len(request.gaps)
    ceiling = [_interval(report.ceiling["exact"]), *(_share(report.ceiling[a].value) for a in ASPECTS)]
    chance = [_share(report.chance[a]) for a in ("exact", *ASPECTS)]
    table.add_section()
    table.add_row("ceiling: true frames", *blank, *ceiling, style="dim")
    table.add_row("chance", *blank, *chance, style="dim")
    _print(table, report.steps, report.elapsed_seconds)
    result_console().print(
        f"at gap {max(request.gaps)}: density of the returning shot's attention; → seen: share of the "
        "object's queries that routed to where it was seen, mean/best head; GFLOP of attention; seconds",
        style="dim",
    )


def print_captions(report: CaptionReport) -> None:
    """A row for each attribute, then what was taken for what."""
    table = _table("attribute", f"faithfulness to captions, {plural(report.samples, 'shot')}")
    for heading in ("generated, 95 %", "true frames" if report.prompts == "world" else "understood"):
        table.add_column(heading, justify="right")
    for name, rate in report.rates.items():
        table.add_row(name, _interval(rate), _share(report.ceiling[name].value))
    _print(table, report.steps, report.elapsed_seconds)
    if report.false_readings:
        console = result_console()
        console.print(f"words without meaning that were given one: {_interval(report.false_readings)}")
    mistakes = [f"{asked} → {shown} ({times})" for _, asked, shown, times in report.confusions[:6]]
    if mistakes:
        result_console().print(f"most frequent mistakes: {'; '.join(mistakes)}", style="dim")


def print_rollout(report: RolloutReport) -> None:
    """Drift, recall along the way, cuts."""
    title = f"{plural(report.rollouts, 'roll-out')} of {plural(report.shots, 'shot')}"
    table = _table("measure", title)
    table.add_column("value, 95 %", justify="right")
    low, high = 100 * report.drift_low, 100 * report.drift_high
    drift = f"{100 * report.drift:+.1f} % ({low:+.1f} to {high:+.1f})"
    table.add_row("drift of brightness, of the range", drift)
    for (first, last, exact), (_, _, colours) in zip(report.recall, report.colours, strict=True):
        table.add_row(f"hero exact, shots {first}–{last}", _interval(exact))
        table.add_row(f"its colours, shots {first}–{last}", _interval(colours))
    table.add_row("cuts seen between shots", _interval(report.cuts_found))
    table.add_row("no cut seen inside shots", _interval(report.steady))
    _print(table, report.steps, report.elapsed_seconds)


def _table(first: str, title: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    return table


def _print(table: Table, steps: int, seconds: float) -> None:
    console = result_console()
    console.print(table)
    console.print(f"{steps} denoising steps, {duration(seconds)}", style="dim")


def _share(value: float) -> str:
    return f"{value:.2f}"


def _interval(rate: Rate) -> str:
    return f"{rate.value:.2f} ({rate.low:.2f}–{rate.high:.2f})"
