"""resolve: which files a model's name stands for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mocgen_weights import CATALOG, WeightsError, embedded_folder, hub_id, resolve
from mocgen_weights.hub import _HUB_ID


def test_the_revision_of_a_folder_is_a_digest_of_its_files(tiny_model: str, tmp_path: Path) -> None:
    resolved = resolve(tiny_model)
    assert resolved.folder == Path(tiny_model)
    assert len(resolved.revision) == 12
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert resolve(str(copy)).revision == resolved.revision
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert resolve(str(copy)).revision != resolved.revision


def test_a_folder_wins_over_a_repository_of_the_same_name(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "owner" / "name")
    assert resolve("owner/name").folder == Path("owner/name")


def test_the_catalogue_names_the_embedded_model_and_its_folder_is_in_the_package() -> None:
    assert "embedded" in {entry.name for entry in CATALOG}
    assert embedded_folder().parent.name == "mocgen_weights"


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("owner/name", "owner/name", None),
        ("owner/name@main", "owner/name", "main"),
        ("owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
        ("Owner-1/name_2.0@v1.0-rc", "Owner-1/name_2.0", "v1.0-rc"),
    ],
)
def test_hub_names(name: str, repo: str, revision: str | None) -> None:
    match = _HUB_ID.fullmatch(name)
    assert match is not None
    assert (match["repo"], match["revision"]) == (repo, revision)


def test_a_name_of_the_catalogue_stands_for_its_repository() -> None:
    repo = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
    assert hub_id("wan2.2-ti2v-5b") == (repo, None)
    assert hub_id("wan2.2-ti2v-5b@v1") == hub_id(f"{repo}@v1") == (repo, "v1")


@pytest.mark.parametrize(
    "name",
    [
        "owner/name@../../x",
        "embedded@v1",
        "nonsense",
        "owner/",
        "/name",
        "a/b/c",
        "./none",
        "../none",
        "a b/c",
        "owner/name@",
        "a@b",
        "a/b\n",
    ],
)
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(WeightsError, match="unknown model") as caught:
        resolve(name)
    assert "owner/name[@revision]" in str(caught.value)


OFFLINE = """
import sys
from mocgen_weights import WeightsError, resolve
try:
    resolve(sys.argv[1])
except WeightsError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["owner/name", "owner/name@v2"])
def test_without_a_network_one_line_says_so(tmp_path: Path, name: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
    }
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, name], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    assert (
        "owner/name is no folder here and not in the local cache, and the Hub cannot be reached"
        in result.stdout
    )
