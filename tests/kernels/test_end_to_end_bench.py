"""The benchmark of whole denoising steps runs with tiny shapes, and goes on where it stopped."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "kernels" / "bench"


def test_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    monkeypatch.syspath_prepend(BENCH)

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["end_to_end.py", "--dry", "--out", str(out), *arguments])
        runpy.run_path(str(BENCH / "end_to_end.py"), run_name="__main__")
        return capsys.readouterr().out

    assert "not measured yet: 5" in run("--minutes", "0")
    assert "not measured yet: 0" in run()
    rows = json.loads(out.read_text())["rows"]
    assert [round(row["density"], 3) for row in rows] == [1.0, 1.0, 1.0, 0.2, 0.4]
    assert all(row["seconds"] > 0 for row in rows)
    for row in rows[1:]:
        row["seconds"] = 7.0
    out.write_text(json.dumps({"rows": rows}))
    assert run().count("7.000") == 4
