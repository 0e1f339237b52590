"""`mocgen models`: list, pull, info and rm against a Hub on the loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(fake_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, and this process's Hub is that of the test."""
    monkeypatch.setattr("mocgen_weights.Hub.address", fake_hub.address)
    monkeypatch.setattr("mocgen_weights.Hub.cache_folder", tmp_path / "cache")
    return tmp_path / "cache"


def test_the_list_shows_licences_and_what_is_cached(run_mocgen, cache: Path) -> None:
    printed = run_mocgen("models", "--format", "json").out
    assert run_mocgen("models", "list", "--format", "json").out == printed
    listed = {entry["name"]: entry for entry in json.loads(printed)}
    assert listed["wan2.1-t2v-1.3b"]["bytes_in_bf16"] == 2 * 1_418_996_800
    assert "extend" not in listed["wan2.1-t2v-1.3b"]["tasks"]
    assert "extend" in listed["wan2.2-ti2v-5b"]["tasks"]
    assert listed["embedded"]["cached_bytes"] == 0
    out = run_mocgen("models").out
    assert all(name in out for name in listed)
    assert "Skywork's own" in out


def test_pull_info_and_rm(run_mocgen, fake_hub: Any, cache: Path) -> None:
    held = fake_hub.repositories["owner/diffusers"]
    before = run_mocgen("models", "info", "owner/diffusers", "--format", "json").json
    assert (before["cached"], before["size_in_cache_bytes"], before["licence"]) == ("no", 0, "mit")
    assert before["all_files_bytes"] < sum(map(len, held.values()))
    pulled = run_mocgen("models", "pull", "owner/diffusers@main", "--format", "json")
    assert pulled.err == ""
    assert pulled.json["revision"] == COMMIT
    assert Path(pulled.json["folder"]).is_relative_to(cache)
    after = run_mocgen("models", "info", "owner/diffusers", "--offline", "--format", "json").json
    assert (after["cached"], after["revision"]) == ("yes", COMMIT)
    assert after["size_in_cache_bytes"] > 0
    folder = run_mocgen("models", "info", pulled.json["folder"], "--format", "json").json
    assert folder["form"] == "diffusers"
    assert folder["architecture"] == "WanPipeline"
    assert folder["parameters"] == 400_000 + 3 + 4 + 5
    refused = run_mocgen("models", "rm", "owner/diffusers")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert run_mocgen("models", "rm", "owner/diffusers", "--yes", "--format", "json").json["bytes"] > 0
    assert not list(cache.glob("models--*"))
    assert "not in the cache" in run_mocgen("models", "rm", "owner/diffusers", "--yes").err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("pull", "owner/none"), 1, "there is no such repository"),
        (("pull", "owner/pickles"), 1, "as pickles only"),
        (("pull", "owner/native@v9"), 1, "has no revision v9"),
        (("pull", "owner/native", "--offline"), 1, "not in the local cache"),
        (("info", "owner/native", "--offline"), 1, "not in the local cache"),
        (("info", "owner/none"), 1, "there is no such repository"),
        (("info", "nonsense"), 1, "unknown model: nonsense"),
        (("info", "."), 1, "holds no config.json"),
        (("rm", "owner/native@v1"), 2, "leave out @v1"),
        (("pull", "embedded"), 2, "it is a folder"),
        (("rm", "embedded"), 2, "it is a folder"),
        (("pull",), 2, "MODEL"),
        (("push", "owner/native"), 2, "push"),
    ],
)
def test_faults_are_one_line(
    run_mocgen, cache: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    outcome = run_mocgen("models", *arguments)
    assert outcome.code == code
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert "please report" not in outcome.err
    assert not cache.exists()


def test_the_embedded_model_is_a_folder_with_facts(run_mocgen) -> None:
    facts = run_mocgen("models", "info", "embedded", "--format", "json").json
    assert (facts["form"], facts["architecture"], facts["licence"]) == (
        "mocgen",
        "mocgen-native",
        "Apache-2.0",
    )
    assert facts["parameters"] > 1_000_000


def test_the_environment_names_the_hub_and_the_cache(fake_hub: Any, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_ENDPOINT": fake_hub.address,
        "HF_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "mocgen", "models", "pull", "owner/native", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(json.loads(done.stdout)["folder"]).is_relative_to(tmp_path / "home" / "hub")


def test_a_licence_of_its_own_is_noted_when_a_model_runs(run_mocgen, cache: Path) -> None:
    outcome = run_mocgen("generate", "a star", "--model", "skyreels-v2-df-1.3b", "--offline")
    assert outcome.code == 1
    assert "licence of its own (Skywork's own): https://huggingface.co/Skywork/SkyReels-V2" in outcome.err
    assert "not in the local cache" in outcome.err
