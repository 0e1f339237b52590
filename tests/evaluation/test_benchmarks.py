"""The benchmarks from end to end, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

RECALL = ("eval", "recall", "--steps", "2", "--samples", "1", "--format", "json")


def without_times(value: Any) -> Any:
    """The same without what differs from run to run."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "elapsed_seconds")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_recall_gives_figures_for_every_way_and_gap(run_mocgen, tiny_model: str, tmp_path: Path) -> None:
    names = ("dense", "moc-1", "window-1", "none", "clip", "clip-captions")
    ways = [part for name in names for part in ("--attention", name)]
    outcome = run_mocgen(*RECALL, *ways, "--gaps", "1,3", "--model", tiny_model, "--out", "report")
    assert outcome.code == 0, outcome.err
    report = outcome.json
    assert list(report["ways"]) == list(names)
    assert json.loads((tmp_path / "report" / "recall.json").read_text()) == report
    for way in report["ways"].values():
        assert list(way["gaps"]) == ["1", "3"]
        assert way["all"]["exact"]["total"] == 2
    far = {name: report["ways"][name]["gaps"]["3"] for name in names}
    assert far["dense"]["density"] == far["none"]["density"] == 1
    assert far["moc-1"]["density"] < 0.5
    assert (far["dense"]["found"], far["window-1"]["found"], far["none"]["found"]) == (1, 0, 0)
    assert far["dense"]["gflops"] > far["moc-1"]["gflops"] > far["none"]["gflops"]
    assert 0 < far["clip"]["density"] <= 1
    assert 0 < far["clip-captions"]["density"] <= 1
    assert far["clip-captions"]["found"] != far["clip"]["found"]
    for picture in ("recall.png", "recall-returns.png"):
        assert imread(tmp_path / "report" / picture).std() > 0.05


def test_the_same_seed_gives_the_same_figures(run_mocgen, tiny_model: str) -> None:
    line = (*RECALL, "--attention", "random-1", "--gaps", "2", "--model", tiny_model)
    first, again, other = (run_mocgen(*line, "--seed", seed).json for seed in ("1", "1", "2"))
    assert without_times(first) == without_times(again)
    assert without_times(first) != without_times(other)


def test_generated_histories_are_those_of_the_model(run_mocgen, tiny_model: str) -> None:
    line = (*RECALL, "--attention", "dense", "--gaps", "2", "--history", "generated", "--model", tiny_model)
    outcome = run_mocgen(*line)
    assert outcome.json["history"] == "generated"
    assert outcome.json["ways"]["dense"]["all"]["exact"]["total"] == 1


def test_captions_are_read_back(run_mocgen, tiny_model: str, tmp_path: Path) -> None:
    line = ("eval", "captions", "--steps", "2", "--samples", "3", "--model", tiny_model, "--out", "report")
    report = run_mocgen(*line, "--format", "json").json
    assert set(report["rates"]) == {"place", "colours", "shape", "motion", "pattern", "all"}
    assert all(rate["total"] == 3 for rate in report["rates"].values())
    missed = sum(3 - rate["hits"] for name, rate in report["rates"].items() if name != "all")
    assert sum(mistake["times"] for mistake in report["confusions"]) == missed
    again = run_mocgen(*line)
    assert again.code == 1
    assert "captions.json exists" in again.err
    assert run_mocgen(*line, "--overwrite").code == 0
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "captions-sheet.png",
        "captions.json",
        "captions.png",
    ]


def test_open_prompts_are_generated_and_read(run_mocgen, tiny_model: str, tmp_path: Path) -> None:
    line = ("eval", "captions", "--prompts", "open", "--steps", "1", "--samples", "2", "--model", tiny_model)
    report = run_mocgen(*line, "--out", "report", "--format", "json").json
    assert (report["prompts"], report["samples"]) == ("open", 2)
    assert report["rates"]["concepts"]["total"] == report["ceiling"]["concepts"]["total"] == 8
    assert report["ceiling"]["concepts"]["value"] > 0.5  # understood
    assert report["false_readings"]["total"] == 60
    assert len(list((tmp_path / "report").iterdir())) == 3
    assert "understood" in run_mocgen(*line).out


def test_roll_outs_give_drift_recall_and_cuts(run_mocgen, tiny_model: str, tmp_path: Path) -> None:
    line = ("eval", "rollout", "--shots", "5", "--samples", "1", "--steps", "2", "--model", tiny_model)
    report = run_mocgen(*line, "--out", "report", "--format", "json").json
    assert [len(row) for row in report["brightness"]] == [5]
    assert report["cuts_found"]["total"] == 4
    assert report["steady"]["total"] == 5 * 7
    assert sum(stretch["total"] for stretch in report["recall"]) == 2
    assert report["drift"]["value"] == pytest.approx(report["brightness"][0][4] - report["brightness"][0][0])
    assert (tmp_path / "report" / "rollout-strip.png").exists()


def test_tables_are_for_people(run_mocgen, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # nothing tells how wide the output is
    line = ("eval", "recall", "--steps", "2", "--samples", "1", "--gaps", "1,2", "--model", tiny_model)
    out = run_mocgen(*line, "--attention", "moc-1").out
    words = ("moc-1", "gap 1", "gap 2", "exact, 95 %", "ceiling", "chance", "density")
    assert all(word in out for word in words)
    assert "…" not in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["recall", "--attention", "sparse"], "'sparse' is not known"),
        (["recall", "--attention", "moc-1", "--attention", "moc-1"], "given twice"),
        (["recall", "--gaps", "0"], "a gap must be from 1 to"),
        (["recall", "--gaps", "1;2"], "whole numbers with commas"),
        (["recall", "--samples", "0"], "samples must be from 1 to"),
        (["recall", "--history", "dreamt"], "rendered"),
        (["captions", "--samples", "-1"], "samples must be from 1 to"),
        (["captions", "--steps", "0"], "steps must be from 1 to"),
        (["rollout", "--shots", "1"], "shots must be from 2 to"),
        (["rollout", "--attention", "moc-2"], "first-frame"),
        (["rollout", "--top-k", "0"], "top-k must be from 1 to"),
        (["memory"], "mocgen eval --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_is_refused_in_one_line(run_mocgen, tmp_path: Path, arguments: list[str], named: str) -> None:
    outcome = run_mocgen("eval", *arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_named(run_mocgen) -> None:
    outcome = run_mocgen("eval", "captions", "--model", "./nowhere")
    assert outcome.code == 1
    assert "nowhere" in outcome.err
