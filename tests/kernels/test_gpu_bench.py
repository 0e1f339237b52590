"""The GPU benchmark, dry: parity, speed and table in the interpreter, and going on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
SCRIPT = Path(__file__).parents[2] / "kernels" / "bench" / "gpu.py"


def run(*arguments: str) -> str:
    """What the script prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), "--dry", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dry_run(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"matmul": {"tflops": 123.0}}))  # known already
    printed = run("--out", str(out))
    results = json.loads(out.read_text())
    checks = [x for name, x in results.items() if name.startswith("parity")]
    assert len(checks) == 2
    assert all(x["passed"] and x["wrong"] == 0 and 0 < x["dk"] < 4e-3 for x in checks)
    rows = [x for name, x in results.items() if name.startswith("moc")]
    assert [row["density"] for row in rows] == [0.5]
    assert all(min(row["forward_backward"], row["forward"], row["routing"]) > 0 for row in rows)
    assert "parity: 2 of 2 passed" in printed
    assert "complete" in printed
    assert "matmul: 123 TFLOP/s" in printed


def test_sanitizer_command() -> None:
    assert "compute-sanitizer --tool memcheck" in run("--sanitize")
