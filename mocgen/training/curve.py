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
    """Draw the loss column of a CSV file over its steps; `marks` are steps where a stage begins."""
    from matplotlib.figure import Figure

    with table.open() as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    window = max(1, len(rows) // 100)
    smooth = [
        sum(loss for _, loss in rows[max(0, i - window) : i + 1]) / len(rows[max(0, i - window) : i + 1])
        for i in range(len(rows))
    ]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([step for step, _ in rows], [loss for _, loss in rows], color="0.8", linewidth=0.5)
    axes.plot([step for step, _ in rows], smooth, color="tab:blue")
    for mark in marks:
        axes.axvline(mark, color="0.5", linestyle=":")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, 1.2 * max(smooth[len(smooth) // 20 :])))
    figure.savefig(picture, dpi=120)
