"""Signals and closed pipes: the command stops cleanly and says so in its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def waiting(start_mocgen, tmp_path: Path):
    """A running `generate` that waits for a storyboard which never ends."""
    pipe = tmp_path / "story.txt"
    os.mkfifo(pipe)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # children of nohup ignore it
    process = start_mocgen("generate", "--storyboard", "story.txt")
    signal.signal(signal.SIGHUP, before)
    with pipe.open("w"):  # returns when the command has opened the other end
        yield process
    process.kill()
    process.wait()


def test_ctrl_c_exits_with_130_and_a_short_line(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert (out, err) == ("", "mocgen: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["story.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_unwind(waiting: subprocess.Popen[str], number: int) -> None:
    waiting.send_signal(number)
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 128 + number
    assert (out, err) == ("", "")


def test_a_reader_that_has_gone_is_no_error_message(start_mocgen) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start_mocgen("models", stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1
