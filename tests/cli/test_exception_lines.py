"""The table of exceptions: what a user reads when something breaks below the command line."""

from __future__ import annotations

import errno

import pytest
import torch

from mocgen.cli.failures import exit_code, explain
from mocgen.errors import ClipError, UsageError


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ClipError("a.mp4 is broken.\nCopy it again."), "a.mp4 is broken. Copy it again", 1),
        (UsageError("no prompt"), "no prompt", 2),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied", 1),
    ],
)
def test_known_errors_are_their_own_line(error: Exception, line: str, code: int) -> None:
    assert explain(error) == line
    assert exit_code(error) == code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_the_way_out(number: int) -> None:
    line = explain(OSError(number, "No space left on device", "star.mp4"))
    assert "disk is full" in line
    assert "star.mp4" in line
    assert "-o" in line


def test_too_little_memory_is_recognised_from_python_and_from_torch() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), caught.value):
        assert explain(error).startswith("not enough memory")


def test_a_bug_is_named_and_asks_for_a_report() -> None:
    line = explain(KeyError("descriptor"))
    assert "KeyError" in line
    assert "--debug" in line
    assert exit_code(KeyError("descriptor")) == 1
