"""Fetching from a Hub: only what is needed, verified, resumed; and each fault is one clear error."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from mocgen_weights import Fetching, Hub, WeightsError, cached_bytes, find_cached, pull, resolve

BIG = "vae/diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(fake_hub: Any, tmp_path: Path) -> Hub:
    return Hub(endpoint=fake_hub.address, cache=tmp_path / "cache")


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def assert_nothing_is_half_there(hub: Hub, repo: str) -> None:
    """No snapshot counts as complete, and no blob but whole ones has its final name."""
    assert find_cached(repo, None, hub) is None
    storage = hub.cache_folder / f"models--{repo.replace('/', '--')}"
    for blob in storage.glob("blobs/*"):
        assert blob.suffix == ".incomplete" or blob.stat().st_size > 0
    with pytest.raises(WeightsError, match="not in the local cache"):
        pull(repo, None, Hub(cache=hub.cache, offline=True))


def test_the_form_of_diffusers_comes_with_what_is_needed_only(fake_hub: Any, hub: Hub) -> None:
    heard: list[Fetching] = []
    resolved = resolve("owner/diffusers", hub, heard.append)
    held = fake_hub.repositories["owner/diffusers"]
    left = {name for name in held if name.endswith((".bin", ".mp4", ".md", ".fp16.safetensors"))}
    assert files(resolved.folder) == {name: content for name, content in held.items() if name not in left}
    assert resolved.revision == COMMIT
    assert not any(name in request for request in fake_hub.requests for name in left)
    total = sum(len(content) for name, content in held.items() if name not in left)
    assert {event.total for event in heard} == {total}
    assert [event.done for event in heard] == sorted(event.done for event in heard)
    assert (heard[-1].done, heard[-1].file) == (total, "model_index.json")
    assert cached_bytes("owner/diffusers", hub) <= total  # equal files lie there once
    fake_hub.requests.clear()
    assert resolve("owner/diffusers", hub) == resolved
    assert len(fake_hub.requests) == 1  # which commit main is now
    assert resolve(f"owner/diffusers@{COMMIT}", hub) == resolved
    assert len(fake_hub.requests) == 1


def test_the_native_form_comes_with_two_files(fake_hub: Any, hub: Hub) -> None:
    resolved = resolve("owner/native@v1", hub)
    assert files(resolved.folder).keys() == {"config.json", "model.safetensors"}
    assert find_cached("owner/native", "v1", hub) == find_cached("owner/native", COMMIT, hub) is not None
    assert find_cached("owner/native", None, hub) is None  # what main is was not asked


def test_a_branch_that_moved_is_fetched_again_and_the_old_commit_stays(fake_hub: Any, hub: Hub) -> None:
    first = resolve("owner/native", hub)
    fake_hub.commit = "f" * 40
    fake_hub.repositories["owner/native"]["config.json"] = b'{"new": 1}'
    second = resolve("owner/native", hub)
    assert second.revision == "f" * 40
    assert (second.folder / "config.json").read_bytes() == b'{"new": 1}'
    assert (first.folder / "config.json").read_bytes() == b"{}"
    assert len(fake_hub.asked_for("model.safetensors")) == 2  # once, over the redirection


@pytest.mark.parametrize("model", ["owner/diffusers", "owner/native"])
def test_without_a_connection_the_cache_serves(fake_hub: Any, hub: Hub, model: str) -> None:
    resolved = resolve(model, hub)
    assert resolve(model, Hub(cache=hub.cache, offline=True)) == resolved
    assert resolve(model, Hub(endpoint="http://127.0.0.1:9", cache=hub.cache)) == resolved
    next(path for path in resolved.folder.rglob("*.safetensors")).unlink()
    with pytest.raises(
        WeightsError, match=r"not in the local cache, and the Hub cannot be reached \(offline\)"
    ):
        resolve(model, Hub(cache=hub.cache, offline=True))


def test_while_the_hub_is_down_the_cache_serves(fake_hub: Any, hub: Hub) -> None:
    resolved = resolve("owner/native", hub)
    fake_hub.down = True
    assert resolve("owner/native", hub) == resolved
    with pytest.raises(WeightsError, match=r"not in the local cache, and the Hub cannot be reached \(.*503"):
        resolve("owner/diffusers", hub)


def test_a_file_of_the_cache_that_became_shorter_is_fetched_again(fake_hub: Any, hub: Hub) -> None:
    resolved = resolve("owner/native", hub)
    os.truncate(resolved.folder / "model.safetensors", 1000)
    assert resolve("owner/native", hub) == resolved
    right = fake_hub.repositories["owner/native"]["model.safetensors"]
    assert (resolved.folder / "model.safetensors").read_bytes() == right


def test_without_a_connection_and_a_cache_one_line_says_so(fake_hub: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not in the local cache, and the Hub cannot be reached"):
        resolve("owner/native", Hub(endpoint="http://127.0.0.1:9", cache=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("owner/none", "there is no such repository on the Hub"),
        ("owner/native@v9", "owner/native has no revision v9"),
        ("owner/pickles", r"as pickles only \(models_t5.pth, pytorch_model.bin\): .* run any code"),
    ],
)
def test_what_the_hub_does_not_have_is_said(fake_hub: Any, hub: Hub, model: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        resolve(model, hub)
    assert not hub.cache_folder.exists()


def test_a_part_in_pickles_only_is_refused(fake_hub: Any, hub: Hub) -> None:
    del fake_hub.repositories["owner/diffusers"]["text_encoder/model.safetensors"]
    with pytest.raises(WeightsError, match=r"as pickles only \(text_encoder/pytorch_model\.bin\)"):
        resolve("owner/diffusers", hub)
    del fake_hub.repositories["owner/diffusers"]["text_encoder/pytorch_model.bin"]
    with pytest.raises(WeightsError, match="no safetensors in text_encoder"):
        resolve("owner/diffusers", hub)
    assert not hub.cache_folder.exists()


@pytest.mark.parametrize("where", ["gated", "gated_files"])
def test_a_gated_repository_says_how_to_get_in(fake_hub: Any, hub: Hub, where: str) -> None:
    setattr(fake_hub, where, True)
    with pytest.raises(WeightsError, match=r"owner/diffusers is gated: accept its terms .* `hf auth login`"):
        resolve("owner/diffusers", hub)
    assert_nothing_is_half_there(hub, "owner/diffusers")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client writes small pieces, and does not wait between its attempts."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_goes_on_where_it_stopped(
    fake_hub: Any, hub: Hub, capfd: pytest.CaptureFixture[str], ranges: bool
) -> None:
    fake_hub.cut = {BIG: 1_000_000}
    with pytest.raises(WeightsError, match=r"connection broke while fetching owner/diffusers .* is kept"):
        resolve("owner/diffusers", hub)
    assert_nothing_is_half_there(hub, "owner/diffusers")
    fake_hub.cut = {}
    fake_hub.ignores_ranges = not ranges
    fake_hub.requests.clear()
    heard: list[Fetching] = []
    resolved = resolve("owner/diffusers", hub, heard.append)
    assert all(request.endswith(" bytes=1000000-") for request in fake_hub.asked_for(BIG))
    assert len(fake_hub.asked_for(BIG)) == 2  # with the redirection
    assert not fake_hub.asked_for("text_encoder/model.safetensors")  # that came the first time
    assert (resolved.folder / BIG).read_bytes() == fake_hub.repositories["owner/diffusers"][BIG]
    assert heard[-1].done == heard[-1].total
    assert not list(hub.cache_folder.rglob("*.incomplete"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("impatient")
def test_an_interrupt_keeps_what_came(fake_hub: Any, hub: Hub) -> None:
    def stop(fetching: Fetching) -> None:
        if fetching.done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("owner/native", hub, stop)
    assert_nothing_is_half_there(hub, "owner/native")
    fake_hub.requests.clear()
    right = fake_hub.repositories["owner/native"]["model.safetensors"]
    assert (resolve("owner/native", hub).folder / "model.safetensors").read_bytes() == right
    assert all(request.endswith(" bytes=500000-") for request in fake_hub.asked_for("model.safetensors"))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("change", ["other bytes", "too short", "too long"])
def test_content_that_is_not_what_was_announced_is_deleted(
    fake_hub: Any, hub: Hub, file: str, change: str
) -> None:
    right = fake_hub.repositories["owner/native"][file] = b"\0" + bytes(range(256)) * 40
    wrong = {"other bytes": b"\1" + right[1:], "too short": right[:-9], "too long": right + right}[change]
    fake_hub.served = {file: wrong}
    for _ in range(2):  # what is wrong is not gone on with
        words = "checksum" if change == "other bytes" else "size"
        with pytest.raises(
            WeightsError, match=rf"{file} of owner/native does not have the {words} .* deleted"
        ):
            resolve("owner/native", hub)
        assert_nothing_is_half_there(hub, "owner/native")
        assert not list(hub.cache_folder.rglob("*.incomplete"))
    fake_hub.served = {}
    assert (resolve("owner/native", hub).folder / file).read_bytes() == right


def test_what_is_left_of_other_content_is_not_gone_on_with(fake_hub: Any, hub: Hub) -> None:
    resolved = resolve("owner/native", hub)
    blob = (resolved.folder / "model.safetensors").resolve()
    for leftover in (blob.read_bytes() + b"more", b"x" * 1000, blob.read_bytes()[:-1]):
        blob.unlink(missing_ok=True)
        blob.with_name(f"{blob.name}.incomplete").write_bytes(leftover)
        if leftover[:1] == b"x":
            with pytest.raises(WeightsError, match="does not have the checksum"):
                resolve("owner/native", hub)
        assert resolve("owner/native", hub) == resolved
        assert blob.read_bytes() == fake_hub.repositories["owner/native"]["model.safetensors"]


def test_a_full_disk_is_said_and_the_next_run_goes_on(fake_hub: Any, hub: Hub) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"the disk is full while fetching owner/native; make room"):
            resolve("owner/native", hub)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_nothing_is_half_there(hub, "owner/native")
    fake_hub.requests.clear()
    resolved = resolve("owner/native", hub)
    assert all(request.endswith(" bytes=1000000-") for request in fake_hub.asked_for("model.safetensors"))
    assert (
        files(resolved.folder)["model.safetensors"]
        == fake_hub.repositories["owner/native"]["model.safetensors"]
    )


def test_what_does_not_fit_on_the_disk_is_not_begun(
    fake_hub: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_500_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(WeightsError, match=r"0\.0 GB free; make room, or set HF_HOME"):
        resolve("owner/native", hub)
    assert not hub.cache_folder.exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("commit", "../../../evil", "gives no commit"),
        ("checksums", {"config.json": "../../evil"}, "gives no checksum for config.json"),
    ],
)
def test_names_from_the_hub_cannot_leave_the_cache(
    fake_hub: Any, hub: Hub, field: str, value: object, words: str
) -> None:
    setattr(fake_hub, field, value)
    with pytest.raises(WeightsError, match=words):
        resolve("owner/native", hub)
    assert not hub.cache_folder.exists()
