"""What goes to stdout and what to stderr: summaries, JSON, notes, progress bars."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mocgen.cli.bars import RunBars
from mocgen.cli.progress import show_progress
from mocgen.cli.summary import print_result
from mocgen.cli.wording import duration, number
from mocgen.settings import (
    ContextEncoding,
    ModelFetching,
    ModelLoading,
    Notice,
    RememberedShot,
    Result,
    Step,
    Writing,
)

RESULT = Result(
    output=Path("two films.mp4"),
    frames=16,
    fps=8.0,
    width=384,
    height=384,
    seconds=2.0,
    seed=71,
    model="embedded",
    revision="1",
    attention="moc",
    top_k=5,
    density=0.4123,
    elapsed_seconds=11.25,
    shots=2,
    unknown_words=("zeppelin",),
    read_words={"crimson": "red"},
)


def test_json_is_one_object_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(RESULT, "json", repeatable=True)
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    promised = (
        "output frames fps width height seconds seed model revision attention top_k density elapsed_seconds"
    )
    assert set(promised.split()) <= set(result)
    assert result["output"] == "two films.mp4"
    assert result["unknown_words"] == ["zeppelin"]
    assert result["read_words"] == {"crimson": "red"}
    assert printed.out.count("\n") == 1


def test_how_a_clip_was_cut_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shots = tuple(RememberedShot(begin=begin, caption="a star") for begin in (0.0, 1.25, 3.0))
    for count, line in ((3, "3 shots (cuts at 1.25, 3 s) remembered"), (1, "1 shot remembered")):
        print_result(replace(RESULT, clip_shots=shots[:count]), "human", repeatable=False)
        assert line in capsys.readouterr().out
    print_result(replace(RESULT, clip_shots=shots[:1]), "json", repeatable=False)
    assert json.loads(capsys.readouterr().out)["clip_shots"] == [{"begin": 0.0, "caption": "a star"}]
    print_result(RESULT, "human", repeatable=True)
    assert "remembered" not in capsys.readouterr().out


def test_the_summary_has_commands_that_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(RESULT, "human", repeatable=True)
    out = capsys.readouterr().out
    assert "384x384, 8 fps, 2 shots, 2 s (16 frames)" in out
    assert "mocgen extend 'two films.mp4'" in out
    assert "--repeat 'two films.mp4'" in out
    assert "--model" not in out
    print_result(replace(RESULT, model="my models/one"), "human", repeatable=False)
    out = capsys.readouterr().out
    assert "--repeat" not in out
    assert "--model 'my models/one'" in out


def test_without_a_terminal_only_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, expected in {False: "mocgen: note: not understood: 'zeppelin'\n", True: ""}.items():
        with show_progress(quiet=quiet) as show:
            show(ModelLoading(model="embedded"))
            show(Step(shot=1, shots=2, step=3, steps=20, caption="a star"))
            show(Notice(message="not understood: 'zeppelin'"))
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", expected)


def test_bars_follow_the_run() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)

    def shown(*events: object) -> str:
        """What the screen shows last after some more events."""
        for event in events:
            bars.show(event)  # type: ignore[arg-type]
        bars._progress.refresh()
        text = screen.getvalue()
        screen.seek(0)
        screen.truncate()
        return text

    with RunBars(console) as bars:
        assert "loading the model" in shown(ModelLoading(model="embedded"))
        fetching = shown(ModelFetching(file="vae/model.safetensors", done=1_500_000, total=3_000_000_000))
        assert "fetching the model" in fetching
        assert "1.5 MB of 3 GB" in fetching
        assert "vae/model.safetensors" in fetching
        assert "MB" not in shown(ModelFetching(file="model_index.json", done=9, total=9))
        assert "3 of 7 shots" in shown(ContextEncoding(shots_done=3, shots=7))
        step = shown(Step(shot=2, shots=3, step=4, steps=20, caption="a [red] star"))
        assert "shot 2/3" in step
        assert "step 4/20" in step
        assert "a [red] star" in step
        assert "whole run" in step
        assert "writing shot 2/3" in shown(Writing(shot=2, shots=3))
        assert "writing your clip" in shown(Writing(shot=0, shots=3))
        assert "note: [bold] is not known" in shown(Notice(message="[bold] is not known"))


def test_info_shows_how_a_video_was_made(run_mocgen, make_video) -> None:
    record = {
        "version": "0.1.0",
        "command": "generate",
        "prompt": "",
        "shots": [{"caption": "a [red] star", "seconds": 2.5}],
        "settings": {"seed": 11, "size": [640, 640], "top_k": None, "causal": True},
        "model": "embedded",
        "revision": "1",
    }
    make_video("star.mp4", record)
    out = run_mocgen("info", "star.mp4").out
    for part in ("64x48, 8 fps, h264", "1 s (8 frames)", "a [red] star (2.5 s)", "embedded 1", "640x640"):
        assert part in out
    assert "top-k" not in out
    facts = json.loads(run_mocgen("info", "star.mp4", "--format", "json").out)
    assert facts["mocgen"] == record
    assert (facts["width"], facts["height"], facts["fps"], facts["frames"]) == (64, 48, 8.0, 8)


def test_info_shows_any_other_clip_too(run_mocgen, make_video) -> None:
    make_video("plain.mp4")
    assert "not made by mocgen" in run_mocgen("info", "plain.mp4").out
    assert json.loads(run_mocgen("info", "plain.mp4", "--format", "json").out)["mocgen"] is None


def test_info_reads_a_folder_of_pictures(run_mocgen, make_video) -> None:
    make_video("frames", {"version": "0.1.0", "command": "generate", "shots": [{"caption": "a star"}]})
    assert "a star" in run_mocgen("info", "frames").out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7801, "2 h 10 min"),
    ],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_have_no_superfluous_zeros() -> None:
    assert [number(value) for value in (8.0, 29.97, 100.0, 0.5)] == ["8", "29.97", "100", "0.5"]
