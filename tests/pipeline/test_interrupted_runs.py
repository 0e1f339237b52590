"""Ctrl-C in the middle of a shot, on a terminal: exit 130, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

STAR, CUBE = "a red star spins in the desert", "a blue cube bounces under the sea"


def read_until(terminal: int, pattern: str) -> str:
    """What a process shows on its terminal until `pattern` appears in it."""
    shown = ""
    while not re.search(pattern, shown):
        shown += os.read(terminal, 65536).decode(errors="replace")  # OSError when the process has gone
    return shown


@pytest.mark.parametrize(
    ("words", "name", "number"),
    [
        (["generate"], "v", signal.SIGINT),
        (["extend", "clip.mp4"], "v.mp4", signal.SIGINT),
        (["extend", "clip.mp4"], "v.mp4", signal.SIGTERM),
    ],
)
def test_a_run_stops_cleanly_in_the_middle_of_a_shot(
    start_mocgen, make_clip, tmp_path: Path, tiny_model: str, words: list[str], name: str, number: int
) -> None:
    make_clip("clip.mp4")
    terminal, stderr = os.openpty()
    process = start_mocgen(
        *words, STAR, CUBE, "-o", name, "--model", tiny_model, "--steps", "1000", stderr=stderr
    )
    os.close(stderr)
    try:
        read_until(terminal, r"step [1-9]\d*/1000")
        assert len(list(tmp_path.iterdir())) == 2  # the clip, and what is half-written
        process.send_signal(number)
        if number == signal.SIGINT:
            read_until(terminal, "mocgen: interrupted")
        else:
            with pytest.raises(OSError, match="Input/output"):
                read_until(terminal, "no such words")
        assert process.communicate(timeout=60)[0] == ""
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
