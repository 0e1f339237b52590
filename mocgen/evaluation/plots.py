"""Plots of the results, with their intervals."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .captions import CaptionReport
from .rates import Rate
from .recall import RecallReport
from .rollout import RolloutReport

INK, FAINT = "#1d1d24", "#74747f"
DPI = 140
COLORS = {
    "dense": "#1d1d24",
    "moc": "#2171b5",
    "first-frame": "#8c6bb1",
    "window": "#e6872e",
    "random": "#c8372d",
    "none": "#a0a0a8",
    "named": "#2a9d4a",
    "clip": "#c51b7d",
    "clip-captions": "#17a2a8",
}  # of ways, budgets apart; these have markers of their own
MARKERS = "osD^vP*Xhdp<"


def draw_recall(report: RecallReport, path: Path) -> None:
    """Exact recall over the gap, and over what was attended."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    over_gap, over_density = figure.subplots(1, 2, sharey=True)
    gaps, ways = report.request.gaps, report.request.ways
    for index, way in enumerate(ways):
        color, marker = COLORS[way.rstrip("-0123456789")], MARKERS[index % len(MARKERS)]
        places = [n + 0.75 * ((index + 0.5) / len(ways) - 0.5) for n in range(len(gaps))]
        rates = [report.of(way, gap).rates["exact"] for gap in gaps]
        _points(over_gap, places, rates, color=color, marker=marker)
        far = report.of(way, max(gaps))
        _points(over_density, [far.density], [far.rates["exact"]], color=color, marker=marker, label=way)
    over_gap.set_xticks(range(len(gaps)), [str(gap) for gap in gaps])
    over_gap.set(xlabel="gap in shots", ylabel="exact look recalled", xlim=(-0.5, len(gaps) - 0.5))
    over_density.set(xlabel=f"attended density, gap {max(gaps)}", xlim=(0, 1.05))
    for axes in (over_gap, over_density):
        _reference_lines(axes, report.ceiling["exact"].value, report.chance["exact"])
    over_density.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=DPI)


def _reference_lines(axes: Axes, ceiling: float, chance: float) -> None:
    left = axes.get_xlim()[0]
    for height, style, name in ((ceiling, "--", "true frames"), (chance, ":", "chance")):
        axes.axhline(height, color=FAINT, linestyle=style, linewidth=1)
        axes.text(left, height + 0.015, f" {name}", fontsize=7, color=FAINT)
    axes.set_ylim(-0.03, 1.08)
    _tidy(axes)


def _points(
    axes: Axes,
    places: list[float],
    rates: list[Rate],
    *,
    color: str,
    marker: str = "",
    label: str | None = None,
    line: str = "none",
) -> None:
    """Rates with their intervals."""
    values = [rate.value for rate in rates]
    reach = [[rate.value - rate.low for rate in rates], [rate.high - rate.value for rate in rates]]
    axes.errorbar(
        places,
        values,
        yerr=reach,
        color=color,
        marker=marker,
        label=label,
        linestyle=line,
        markersize=5,
        elinewidth=1,
        capsize=2,
    )


def draw_captions(report: CaptionReport, path: Path) -> None:
    """A bar for each attribute, beside it what true frames are read as."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    names = list(report.rates)
    for rates, shift, color, label in (
        (report.rates, -0.2, "#2171b5", "generated"),
        (report.ceiling, 0.2, "#c9ccd6", "true frames" if report.prompts == "world" else "understood"),
    ):
        places = [n + shift for n in range(len(names))]
        axes.bar(places, [rates[name].value for name in names], width=0.38, color=color, label=label)
        _points(axes, places, [rates[name] for name in names], color=INK)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylim=(0, 1.08), ylabel=f"right, of {report.samples} shots")
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    _tidy(axes)
    figure.savefig(path, dpi=DPI)


def draw_rollout(report: RolloutReport, path: Path) -> None:
    """Brightness against the true shots, and recall of the hero, along the roll-out."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    light, recall = figure.subplots(2, 1, sharex=True)
    for shots in report.rolled:
        light.plot([s.number for s in shots], [s.brightness for s in shots], color="#9ecae1", linewidth=0.8)
    numbers = range(1, report.shots + 1)
    middle = [sum(shots[n - 1].brightness for shots in report.rolled) / len(report.rolled) for n in numbers]
    light.plot(numbers, middle, color="#08306b", linewidth=1.5)
    light.axhline(0, color=FAINT, linewidth=0.8)
    light.set(ylabel="brighter than true", ylim=(-0.15, 0.15))
    for name, found, color in (
        ("exact look", report.recall, "#2171b5"),
        ("its colours", report.colours, "#e6872e"),
    ):
        places = [(first + last) / 2 for first, last, _ in found]
        rates = [rate for _, _, rate in found]
        _points(recall, places, rates, color=color, marker="o", label=name, line="-")
    recall.set(xlabel="shot", ylabel="hero recalled", ylim=(-0.03, 1.08))
    recall.legend(fontsize=8, frameon=False)
    for axes in (light, recall):
        _tidy(axes)
    figure.savefig(path, dpi=DPI)


def _tidy(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececf0", linewidth=0.8)
    axes.set_axisbelow(True)
