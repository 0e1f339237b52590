"""Progress bars of a run: what is done now and, with several shots, the whole run; with the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from mocgen.cli.wording import duration, size_in_bytes
from mocgen.settings import ContextEncoding, Event, ModelFetching, ModelLoading, Notice, Step, Writing


class RunBars:
    """A context manager; `show` takes the events of a run."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            _TimeLeft(),
            TextColumn(
                "{task.fields[caption]}",
                style="dim",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=console,
            transient=True,
            expand=True,
        )
        self._stage = self._progress.add_task("starting", total=None, count="", caption="")
        self._shot = self._progress.add_task("shot", total=None, count="", caption="", visible=False)
        self._whole = self._progress.add_task("whole run", total=None, count="", caption="", visible=False)
        self._shot_number = 0

    def __enter__(self) -> RunBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Draws one event."""
        match event:
            case ModelLoading():
                self._show_stage("loading the model", caption=event.model)
            case ModelFetching():
                self._show_fetching(event)
            case ContextEncoding():
                self._show_stage("reading the clip", caption=f"{event.shots_done} of {event.shots} shots")
            case Step():
                self._show_step(event)
            case Writing():
                what = f"shot {event.shot}/{event.shots}" if event.shot else "your clip"
                self._show_stage(f"writing {what}")
            case Notice():
                self._progress.console.print(
                    f"mocgen: note: {event.message}", markup=False, highlight=False, soft_wrap=True
                )

    def _show_stage(self, description: str, caption: str = "") -> None:
        """Something whose length is not known: a moving bar."""
        self._progress.update(self._shot, visible=False)
        self._progress.update(self._stage, visible=True, description=description, caption=caption)

    def _show_fetching(self, event: ModelFetching) -> None:
        """Bytes of a download; when all have come, the model is being loaded."""
        if event.done == event.total:
            self._progress.update(self._stage, total=None, count="")
            self._show_stage("loading the model")
            return
        count = f"{size_in_bytes(event.done)} of {size_in_bytes(event.total)}"
        self._show_stage("fetching the model", caption=event.file)
        self._progress.update(self._stage, completed=event.done, total=event.total, count=count)

    def _show_step(self, step: Step) -> None:
        if step.shot != self._shot_number:  # the speed of the shot before says nothing
            self._shot_number = step.shot
            self._progress.reset(self._shot, total=step.steps)
        self._progress.update(self._stage, visible=False)
        self._progress.update(
            self._shot,
            visible=True,
            description=f"shot {step.shot}/{step.shots}",
            completed=step.step,
            count=f"step {step.step}/{step.steps}",
            caption=step.caption,
        )
        done, total = (step.shot - 1) * step.steps + step.step, step.shots * step.steps
        self._progress.update(self._whole, completed=done, total=total, visible=step.shots > 1)


class _TimeLeft(ProgressColumn):
    """Time left, in words."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None or task.finished else f"{duration(left)} left", style="cyan")
