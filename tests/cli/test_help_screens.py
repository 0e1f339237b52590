"""Help, version and completion: what a user sees first."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import mocgen

COMMANDS = ["generate", "extend", "inspect-routing", "info", "models", "train", "eval"]
PROMISED = [
    "--storyboard",
    "--model",
    "--seconds",
    "--size",
    "--fps",
    "--seed",
    "--steps",
    "--guidance",
    "--negative",
    "--attention",
    "--top-k",
    "--causal",
    "--device",
    "--dtype",
    "--format",
    "--quiet",
    "--overwrite",
    "--no-upscale",
    "--lora",
    "--offload",
    "--quantize",
    "--offline",
]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")


def test_alone_it_shows_the_commands_with_examples(run_mocgen) -> None:
    outcome = run_mocgen()
    assert outcome.code == 0
    assert outcome.out == run_mocgen("--help").out
    assert all(command in outcome.out for command in COMMANDS)
    assert "Examples:" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run_mocgen, command: str) -> None:
    outcome = run_mocgen(command, "--help")
    assert outcome.code == 0
    assert f"mocgen {command}" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("command", ["generate", "extend", "inspect-routing"])
def test_runs_take_every_promised_option(run_mocgen, command: str) -> None:
    out = run_mocgen(command, "--help").out
    assert [option for option in PROMISED if option not in out] == []
    assert "Examples:" in out


def test_version_is_that_of_the_package(run_mocgen) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert run_mocgen("--version").out == f"mocgen {mocgen.__version__}\n"
    assert project.get("version", mocgen.__version__) == mocgen.__version__


def test_the_shell_completes_options_and_names(start_mocgen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MOCGEN_COMPLETE", "complete_bash")
    for typed, expected in {
        "mocgen gen": "generate",
        "mocgen generate --attention fi": "first-frame",
    }.items():
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
        assert start_mocgen().communicate(timeout=60)[0].split() == [expected]


def test_models_lists_the_embedded_one(run_mocgen) -> None:
    assert "embedded" in run_mocgen("models").out
