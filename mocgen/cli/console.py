"""The console that results are printed to."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPED_WIDTH = 160  # of tables in a file or a pipe, where nothing tells how wide it is


def result_console() -> Console:
    """Standard output; as wide as tables are where it is no terminal, so that nothing is cut off."""
    tells_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if tells_width else PIPED_WIDTH)
