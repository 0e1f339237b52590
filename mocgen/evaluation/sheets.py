"""Contact sheets: what was generated, to be judged by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mocgen.training.world import Look, Pose, ShotSpec, render_shot

from .captions import CaptionReport, JudgedShot
from .recall import Example, RecallReport
from .rollout import RolledShot, RolloutReport

RIGHT, WRONG, PLAIN = "#2a9d4a", "#c8372d", "#b8bac4"
INK = "#1d1d24"
SHEET_DPI = 110
STRIP = 13  # pictures in a row of a roll-out


def draw_returns(report: RecallReport, path: Path) -> None:
    """A scene a row: where the character was seen, how it should come back, and how it did in each way."""
    names = ["seen", "true return", *report.request.ways]
    examples = report.examples
    figure = Figure(figsize=(1.1 * len(names) + 0.7, 1.15 * len(examples) + 0.35), layout="constrained")
    grid = figure.subplots(len(examples), len(names), squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        _row_of_returns(row, example)
        row[0].set_ylabel(f"gap {example.gap}", fontsize=8, color=INK)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=8, color=INK)
    figure.savefig(path, dpi=SHEET_DPI)


def _row_of_returns(row: Sequence[Axes], example: Example) -> None:
    _show(row[0], _middle(example.seen))
    _show(row[1], _middle(example.true))
    for axes, (pixels, exact) in zip(row[2:], example.returns.values(), strict=True):
        _show(axes, _middle(pixels), edge=RIGHT if exact else WRONG)


def draw_caption_sheet(report: CaptionReport, path: Path) -> None:
    """First, middle and last frame of shots, what they were read as, and the caption; mistakes named."""
    shots, across = report.examples, 4
    rows = -(-len(shots) // across)
    figure = Figure(figsize=(4.1 * across, 1.6 * rows), layout="constrained")
    grid = figure.subplots(rows, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, shot in zip(grid.flat, shots, strict=False):
        wrong = [name for name, right in shot.agreement.items() if not right]
        axes.imshow(_strip(shot))
        title = fill(shot.caption, 62) + (f"\nnot right: {', '.join(wrong)}" if wrong else "\n")
        axes.set_title(title, fontsize=7, color=WRONG if wrong else INK, loc="left")
    figure.savefig(path, dpi=SHEET_DPI)


def _strip(shot: JudgedShot) -> np.ndarray:
    """Three frames, and beside them the nearest rendering."""
    frames = shot.pixels.numpy()
    last = len(frames) - 1
    picks = [frames[0], frames[last // 2], frames[last]]
    gap = np.full((frames.shape[1], 6, 3), 255, np.uint8)
    read = _rendered(shot, size=frames.shape[1])
    return np.concatenate([*picks, gap, read], axis=1)


def _rendered(shot: JudgedShot, *, size: int) -> np.ndarray:
    reading, match = shot.reading, shot.reading.match
    pose = Pose(x=0.0, lift=0.0, size=2 * float(match.where[:, 2].median()), phase=0.0, backdrop=0)
    look = Look(
        shape=match.look.shape, pattern=match.look.pattern, color=match.look.color, color2=match.look.color2
    )
    spec = ShotSpec(
        look=look, place=reading.place, motion="stands still", pose=pose, caption="", full_caption=""
    )
    return render_shot(spec, frames=1, size=size)[0]


def draw_strip(report: RolloutReport, path: Path) -> None:
    """The first roll-out, a frame a shot; shots of the hero are framed: right look or not."""
    shots = report.rolled[0]
    pictures = [("hero", report.heroes[0], PLAIN)]
    pictures += [(str(shot.number), shot.picture, _edge(shot)) for shot in shots]
    rows = -(-len(pictures) // STRIP)
    figure = Figure(figsize=(1.05 * STRIP, 1.2 * rows), layout="constrained")
    grid = figure.subplots(rows, STRIP, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, picture, edge) in zip(grid.flat, pictures, strict=False):
        axes.set_axis_on()
        _show(axes, picture.numpy(), edge=edge)
        axes.set_title(title, fontsize=7, color=INK)
    figure.savefig(path, dpi=SHEET_DPI)


def _edge(shot: RolledShot) -> str:
    if shot.agreement is None:
        return PLAIN
    return RIGHT if shot.agreement["exact"] else WRONG


def _middle(frames: Tensor) -> np.ndarray:
    return frames[len(frames) // 2].numpy()


def _show(axes: Axes, picture: np.ndarray, *, edge: str = PLAIN) -> None:
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=edge, linewidth=0.8 if edge == PLAIN else 2.5)
