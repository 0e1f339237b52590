"""Two processes, started by torchrun, train as one process does that accumulates twice as many batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mocgen.training.run import train

pytestmark = pytest.mark.usefixtures("_own_threads")


def torchrun(recipe: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "mocgen", "train", str(recipe), "--out", str(out), *options,
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_train_as_one(recipe: Path, tmp_path: Path) -> None:
    result = torchrun(recipe, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "two" / "model")]  # printed once
    two = load_file(tmp_path / "two" / "model" / "model.safetensors")
    recipe.write_text(recipe.read_text().replace("batch = 2\nshots", "batch = 2\naccumulate = 2\nshots"))
    text = recipe.read_text().replace("batch = 4\nshots = 1", "batch = 4\naccumulate = 2\nshots = 1")
    recipe.write_text(text)
    one = load_file(train(recipe, tmp_path / "one") / "model.safetensors")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=2e-2, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
    table = (tmp_path / "two" / "loss.csv").read_text().splitlines()
    assert len(table) == 1 + 5


def test_a_failure_in_one_process_ends_all(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "config.toml").write_text("seed = 9\n")
    result = torchrun(recipe, tmp_path / "two", "--resume")
    assert result.returncode != 0
    assert "another configuration" in result.stderr
