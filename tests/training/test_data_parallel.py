"""Two processes, started by torchrun, train as one process does that accumulates twice as many batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mocgen.errors import TrainingError
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


def test_processes_train_as_one_with_the_whole_model_or_a_part(
    recipe: Path, full_recipe: str, tmp_path: Path
) -> None:
    text = full_recipe
    recipe.write_text(text)
    result = torchrun(recipe, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "two" / "model")]  # printed once
    two = load_file(tmp_path / "two" / "model" / "model.safetensors")
    table = (tmp_path / "two" / "loss.csv").read_text().splitlines()
    assert len(table) == 1 + 5

    recipe.write_text('parallel = "fsdp"\n' + text)
    result = torchrun(recipe, tmp_path / "split")
    assert result.returncode == 0, result.stderr
    ours, theirs = (load_file(tmp_path / name / "state.safetensors") for name in ("split", "two"))
    for name in [name for name in theirs if not name.startswith("optimizer.")]:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )

    text = text.replace("batch = 2\nshots", "batch = 2\naccumulate = 2\nshots")
    recipe.write_text(text.replace("batch = 4\nshots = 1", "batch = 4\naccumulate = 2\nshots = 1"))
    one = load_file(train(recipe, tmp_path / "one") / "model.safetensors")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_split_model_needs_several_processes(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text('parallel = "fsdp"\n' + recipe.read_text())
    with pytest.raises(TrainingError, match="needs several processes"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
