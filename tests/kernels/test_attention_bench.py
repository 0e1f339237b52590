"""The benchmark of attention: what it measures again, and what it prints where something cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[2] / "kernels" / "bench" / "attention.py"


def run(out: Path, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """What it prints and writes for two short sequences."""
    sizes = ["--lengths", "64", "128", "--context", "16", "--dim", "16", "--runs", "1", "--no-flex"]
    command = [sys.executable, str(BENCH), *sizes, *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, json.loads(out.read_text())["rows"]


def test_rows_are_kept_until_something_else_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    shown, rows = run(out, "--heads", "1", "--no-backward", "--top-k", "1")
    assert [row["length"] for row in rows] == [64, 128]
    assert "cost exponent over tokens at k = 1" in shown
    assert json.loads(out.read_text())["exponent"]["value"] is not None
    assert run(out, "--heads", "1", "--no-backward", "--top-k", "1")[1] == rows
    _, more = run(out, "--heads", "2", "--no-backward", "--top-k", "1")
    assert more[:2] == rows
    assert [row["heads"] for row in more] == [1, 1, 2, 2]
    _, again = run(out, "--heads", "1", "--top-k", "1")
    assert [(row["heads"], row["backward"]) for row in again] == [(2, False)] * 2 + [(1, True)] * 2
    assert all(row["forward_backward"] for row in again[2:])


def test_what_could_not_run_is_said(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    _, rows = run(out, "--heads", "1", "--no-backward")
    rows[0]["dense"]["forward"] = {"flash": None}
    out.write_text(json.dumps({"rows": rows}))
    shown, _ = run(out, "--heads", "1", "--no-backward")
    assert "failed" in shown.splitlines()[1]
    assert "failed" not in shown.splitlines()[2]
