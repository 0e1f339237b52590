"""The command line as users have it: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mocgen.cli import main
from mocgen.video import VideoWriter


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str


RunMocgen = Callable[..., Outcome]
MakeVideo = Callable[..., Path]


@pytest.fixture
def run_mocgen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> RunMocgen:
    """Runs a command line in this process, in an empty folder, and checks what holds for every failure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOCGEN_DEBUG", raising=False)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        outcome = Outcome(code=code, out=captured.out, err=captured.err)
        if code != 0:
            assert outcome.out == ""
            assert outcome.err.startswith("mocgen: error: ")
            assert outcome.err.count("\n") == 1, outcome.err
        return outcome

    return run


@pytest.fixture
def start_mocgen(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command line as a process of its own, in an empty folder."""

    def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mocgen", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Writes a grey video of eight frames that carries `record` as what mocgen says about it."""

    def make(name: str, record: object = None) -> Path:
        metadata = {} if record is None else {"mocgen": json.dumps(record)}
        path = tmp_path / name
        with VideoWriter(path, width=64, height=48, fps=Fraction(8), metadata=metadata) as writer:
            writer.write(np.full((8, 48, 64, 3), 128, dtype=np.uint8))
        return path

    return make
