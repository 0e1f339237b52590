"""The Triton backend against the reference, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")


def run(*arguments: str, interpret: bool) -> str:
    """What a Python process prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ
        | {"TRITON_INTERPRET": str(int(interpret)), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_parity_in_the_interpreter() -> None:
    """In two processes at once."""
    parity = str(Path(__file__).with_name("triton_parity.py"))
    with ThreadPoolExecutor(2) as pool:
        for shown in pool.map(
            lambda some: run("-m", "pytest", parity, "-k", some, interpret=True), ("lists", "not lists")
        ):
            assert " passed" in shown


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parity_on_a_gpu() -> None:
    parity = Path(__file__).with_name("triton_parity.py")
    assert " passed" in run("-m", "pytest", str(parity), interpret=False)


def test_nothing_is_loaded_before_it_runs() -> None:
    code = """
import sys, torch
from mocgen_kernels import ContextLayout, Kind, moc_attention
layout = ContextLayout(lengths=[2] * 4, kinds=[Kind.VIDEO] * 4, shots=[0, 1, 2, 3])
q = torch.randn(1, 8, 1, 16)
moc_attention(q, q, q, layout, top_k=1)
print([name for name in sys.modules if name.startswith(("triton", "mocgen_kernels._triton"))])
"""
    assert run("-c", code, interpret=False).strip() == "[]"
