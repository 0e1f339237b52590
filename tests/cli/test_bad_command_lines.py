"""Every command line that cannot be carried out as typed: exit 2, one line that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["generate"], "no prompt"),
        (["generate", ""], "the prompt is empty"),
        (["generate", "a star", "  "], "prompt 2 is empty"),
        (["generate", "a \udcff"], "not valid UTF-8"),
        (["generate", "a star", "--storyboard", "s.toml"], "prompts and --storyboard were both given"),
        (["generate", "--storyboard", "none.toml"], "none.toml: there is no such storyboard file"),
        (["generate", "a star", "--seconds", "-1"], "seconds per shot must be from 0.01 to 3600, not -1"),
        (["generate", "a star", "--seconds", "0"], "seconds per shot must be from"),
        (["generate", "a star", "--seconds", "nan"], "seconds per shot must be from"),
        (["generate", "a star", "--seconds", "1e9"], "seconds per shot must be from"),
        (["generate", "a star", "--seconds", "soon"], "'--seconds'"),
        (["generate", "a star", "--fps", "0"], "fps must be from 1 to 240, not 0"),
        (["generate", "a star", "--fps", "inf"], "fps must be from"),
        (["generate", "a star", "--steps", "0"], "steps must be from 1 to 1000, not 0"),
        (["generate", "a star", "--steps", "-3"], "steps must be from 1 to 1000, not -3"),
        (["generate", "a star", "--steps", "2.5"], "'--steps'"),
        (["generate", "a star", "--guidance", "-0.1"], "guidance must be from 0 to 100, not -0.1"),
        (["generate", "a star", "--top-k", "0"], "top-k must be from 1 to"),
        (["generate", "a star", "--seed", "-1"], "seed must be from 0 to"),
        (["generate", "a star", "--size", "384"], "size must be WIDTHxHEIGHT"),
        (["generate", "a star", "--size", "-96x96"], "size must be WIDTHxHEIGHT"),
        (["generate", "a star", "--size", "0x0"], "size 0x0: width and height must be even and from 16"),
        (["generate", "a star", "--size", "97x96"], "size 97x96"),
        (["generate", "a star", "--size", "99999x96"], "size 99999x96"),
        (["generate", "a star", "--attention", "sparse"], "first-frame"),
        (["generate", "a star", "--device", "tpu"], "cuda"),
        (["generate", "a star", "--format", "xml"], "json"),
        (["generate", "a star", "--model", ""], "model's name is empty"),
        (["generate", "a star", "--sede", "3"], "--seed"),
        (["generate", "a star", "--size"], "'--size' requires an argument"),
        (["generate", "a star", "-o", "star.avi"], ".webm"),
        (["genrate", "a star"], "Did you mean 'generate'?"),
        (["a red star"], "mocgen --help"),
        (["extend"], "missing argument 'CLIP'"),
        (["extend", "clip.mp4"], "no prompt"),
        (["extend", "clip.mp4", "a star", "--context-seconds", "0"], "context-seconds must be from"),
        (["inspect-routing", "a star"], "'--out'"),
        (["inspect-routing", "--clip", "a.mp4", "--repeat", "b.mp4", "--out", "r"], "--clip and --repeat"),
        (["train", "recipe.toml"], "'--out'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_is_refused_in_one_line(run_mocgen, tmp_path: Path, arguments: list[str], named: str) -> None:
    outcome = run_mocgen(*arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["extend", "none.mp4", "a star"], "none.mp4: no such file"),
        (["extend", ".", "a star"], "is a directory"),
        (["extend", "empty.mp4", "a star"], "is empty"),
        (["extend", "text.mp4", "a star"], "text.mp4"),
        (["inspect-routing", "--clip", "text.mp4", "a star", "--out", "r"], "text.mp4"),
        (["generate", "a star", "-o", "text.mp4"], "--overwrite"),
        (["generate", "a star", "-o", "none/star.mp4"], "there is no folder none"),
        (["generate", "--repeat", "none.mp4"], "none.mp4"),
        (["info", "none.mp4"], "none.mp4: no such file"),
        (["info", "text.mp4"], "text.mp4"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_files_are_refused_in_one_line(
    run_mocgen, tmp_path: Path, arguments: list[str], named: str
) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    before = sorted(tmp_path.iterdir())
    outcome = run_mocgen(*arguments, *(["--format", "json"] if arguments[0] != "train" else []))
    assert outcome.code == 1
    assert named in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_storyboard_errors_reach_the_user_with_their_line(run_mocgen, tmp_path: Path) -> None:
    (tmp_path / "story.toml").write_text('prompt = "a star"\n[[shots]]\ncaption = \n')
    outcome = run_mocgen("generate", "--storyboard", "story.toml")
    assert outcome.code == 2
    assert "story.toml, line 3: not valid TOML" in outcome.err


def test_debug_shows_the_traceback_above_the_line(
    run_mocgen, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mocgen.cli import main

    assert main(["generate", "", "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err
    monkeypatch.setenv("MOCGEN_DEBUG", "1")
    assert main(["generate", ""]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("mocgen: error: the prompt is empty")
