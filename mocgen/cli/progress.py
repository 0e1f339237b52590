"""A run's events on stderr: bars on a terminal, only notes elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mocgen.settings import Event, Notice, OnEvent


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[OnEvent]:
    """Yields the function that shows one event; what it drew is wiped when the run is over."""
    if quiet:
        yield _ignore
    elif not sys.stderr.isatty():
        yield _print_note
    else:
        from rich.console import Console

        from mocgen.cli.bars import RunBars

        with RunBars(Console(stderr=True)) as bars:
            yield bars.show


def _ignore(event: Event) -> None:
    return


def _print_note(event: Event) -> None:
    if isinstance(event, Notice):
        print(f"mocgen: note: {event.message}", file=sys.stderr)
