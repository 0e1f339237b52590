"""The loss curve of a run, as a table and as a picture."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("step", "loss", "gradient_norm", "seconds", "memory")


class LossTable:
    """A CSV file of losses; steps that are done again replace old rows.

    Columns: step, loss, gradient norm, seconds since the run was last started, memory gap (where measured).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = time.monotonic()
        self._open = False

    def add(self, step: int, loss: float, norm: float, memory: float | None = None) -> None:
        """Append one row."""
        if not self._open:
            self._truncate(step)
        with self.path.open("a", newline="") as file:
            seconds = time.monotonic() - self._start
            gap = "" if memory is None else f"{memory:.4f}"
            csv.writer(file).writerow((step, f"{loss:.6f}", f"{norm:.4f}", f"{seconds:.2f}", gap))

    def _truncate(self, step: int) -> None:
        """Keep only rows before `step`."""
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if row[0] != "step" and int(row[0]) < step]
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        self._open = True


def plot_loss(table: Path, picture: Path, marks: Sequence[int]) -> None:
    """Draw the losses of a table over its steps, and the memory gap where there is one.

    marks: steps where a stage begins.
    """
    from matplotlib.figure import Figure

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps, losses = [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    gaps = [(int(row["step"]), float(row["memory"])) for row in rows if row["memory"]]
    smooth = running_mean(losses, max(1, len(losses) // 100))
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.8", linewidth=0.5)
    axes.plot(steps, smooth, color="tab:blue")
    for mark in marks:
        axes.axvline(mark, color="0.5", linestyle=":")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, 1.2 * max(smooth[len(smooth) // 20 :])))
    axes.yaxis.label.set_color("tab:blue")
    if gaps:
        right = axes.twinx()
        right.plot(*zip(*gaps, strict=True), color="tab:orange", marker=".", markersize=3, linewidth=1)
        right.set(ylim=(0, max(1.0, *(gap for _, gap in gaps))))
        right.set_ylabel("memory gap (1: as good as naming the look)", color="tab:orange")
    figure.savefig(picture, dpi=120)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to `window` values before it."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window - 1] if i > window else 0.0)
        means.append(total / min(i + 1, window + 1))
    return means
