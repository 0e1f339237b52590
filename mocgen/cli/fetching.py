"""How far a download is, on stderr: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mocgen_weights import Fetching, OnFetching


@contextmanager
def show_fetching(*, quiet: bool) -> Iterator[OnFetching]:
    """Yields the function that shows how far a download is; its bar is wiped when it is over."""
    if quiet or not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    progress = Progress(
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn(
            "{task.description}",
            style="dim",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
    task = progress.add_task("asking the Hub", total=None)
    with progress:
        yield lambda fetching: progress.update(
            task, description=fetching.file, completed=fetching.done, total=fetching.total
        )


def _ignore(fetching: Fetching) -> None:
    return
