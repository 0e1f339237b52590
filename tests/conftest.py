"""Shared by several rooms: tiny random models in folders, and the command line run in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: tests in other processes need the cores

import torch

from mocgen.bundle import Defaults, NativeModel, save_bundle
from mocgen.cli import main
from mocgen.codec.embedded import CodecConfig, EmbeddedCodec
from mocgen.evaluation.scenes import rollout_shots
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.world import STOP_WORDS, WORDS, render_shot
from mocgen.video import VideoWriter


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that a command with --format json printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


RunMocgen = Callable[..., Outcome]


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
            assert outcome.err.splitlines()[-1].startswith("mocgen: error: ")
            assert outcome.err.count("mocgen: error: ") == 1, outcome.err
            assert all(line.startswith("mocgen: ") for line in outcome.err.splitlines()), outcome.err
        return outcome

    return run


@pytest.fixture
def start_mocgen(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command line as a process of its own, in an empty folder."""

    def start(
        *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mocgen", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    return start


def random_model(seed: int) -> NativeModel:
    """A tiny model with random weights everywhere, scaled so that pictures are colourful and finite."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary.of(WORDS, STOP_WORDS)
    dit = MoCDiT(
        DiTConfig(
            width=64, depth=2, heads=2, vocabulary=len(vocabulary), refine_width=16, refine_blocks=1,
            rope_axes=(8, 8, 8, 8),
        )
    )  # fmt: skip
    codec = EmbeddedCodec(CodecConfig(width=16, blocks=1))
    for parameter in (*dit.parameters(), *codec.parameters()):
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        torch.nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)
    defaults = Defaults(frames=8, fps=8.0, steps=2, guidance=1.5, top_k=2)
    return NativeModel(dit=dit, codec=codec, vocabulary=vocabulary, defaults=defaults)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random model: 96×96, 8 frames a second, 2 denoising steps."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_bundle(random_model(0), folder, training="")
    return str(folder)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of another model of the same sizes."""
    folder = tmp_path_factory.mktemp("models") / "other"
    save_bundle(random_model(1), folder, training="")
    return str(folder)


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clip of rendered shots, each in another place than the one before, with frames held."""

    def make(name: str, lengths: Sequence[int], *, held: int = 1, number: int = 0) -> Path:
        path = tmp_path / name
        with VideoWriter(path, width=96, height=96, fps=Fraction(8 * held), metadata={}) as writer:
            for shot, frames in zip(rollout_shots(7, number, len(lengths) - 1), lengths, strict=True):
                writer.write(np.repeat(render_shot(shot, frames=frames, size=96), held, axis=0))
        return path

    return make
