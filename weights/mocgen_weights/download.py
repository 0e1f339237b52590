"""Fetching a repository from the Hub into its cache: only what is needed, resumed, and verified.

huggingface_hub starts an interrupted file anew in the next process and trusts what it received. Here each
file grows under its checksum's name with the end `.incomplete`, so the next run asks for the rest (Range),
and takes its place in the cache only when its content has that checksum.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cache import COMMIT, DEFAULT_REVISION, Hub, Snapshot, note_revision, repository_folder
from .errors import WeightsError
from .hub_failures import explained
from .repository import needed_files

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """How far a download is: the file of now, and bytes of all files. Bytes of earlier runs count as done."""

    repo: str
    file: str
    done: int
    total: int


OnFetching = Callable[[Fetching], None]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a repository: its size in bytes and its checksum (sha256, or git's sha1 for small ones)."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What the Hub says about a repository at a revision. `files` are those that mocgen needs."""

    repo: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]


def list_repository(repo: str, revision: str | None, hub: Hub) -> Listing:
    """Ask the Hub what a repository holds.

    Raises:
        WeightsError: the Hub does not know it or cannot be reached, or it is no model that mocgen can run.
    """
    from huggingface_hub import HfApi

    with explained(repo, revision):
        info = HfApi(endpoint=hub.address).model_info(
            repo, revision=revision or DEFAULT_REVISION, files_metadata=True, timeout=20
        )
    if not COMMIT.fullmatch(info.sha or ""):
        raise WeightsError(f"the Hub gives no commit for {repo}; check HF_ENDPOINT")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    files: list[RemoteFile] = []
    for name in needed_files(siblings, source=repo):
        sibling = siblings[name]
        checksum = str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id)
        if sibling.size is None or not _HASH.fullmatch(checksum):
            raise WeightsError(f"the Hub gives no checksum for {name} of {repo}; check HF_ENDPOINT")
        files.append(RemoteFile(path=name, size=sibling.size, checksum=checksum))
    licence = str(getattr(info.card_data, "license", None) or "")
    return Listing(repo=repo, commit=str(info.sha), licence=licence, files=tuple(files))


def fetch(listing: Listing, revision: str | None, hub: Hub, on_fetching: OnFetching) -> Snapshot:
    """Bring all files of a listing into the cache.

    Raises:
        WeightsError: the transfer or the disk failed, or what came is not what the Hub announced.
    """
    storage = repository_folder(listing.repo, hub)
    folder = storage / "snapshots" / listing.commit
    missing = [file for file in listing.files if not _is_there(folder / file.path, file)]
    with explained(listing.repo, revision):
        _check_space(missing, storage)
        done = sum(file.size for file in listing.files if file not in missing)
        for file in missing:
            meter = _Meter(listing, file, done, on_fetching)
            _fetch_blob(listing, file, hub, meter)
            done += file.size
        for file in missing:
            _link(listing, file, hub)
        note_revision(listing.repo, revision or DEFAULT_REVISION, listing.commit, hub)
    return Snapshot(folder=folder, commit=listing.commit)


class _Meter:
    """What huggingface_hub takes for a progress bar: a class that it makes (`__call__`) and feeds."""

    def __init__(self, listing: Listing, file: RemoteFile, before: int, on_fetching: OnFetching) -> None:
        self._fixed = {"repo": listing.repo, "file": file.path}
        self._total = sum(each.size for each in listing.files)
        self._before = before
        self._done = 0
        self._on_fetching = on_fetching

    def __call__(self, *, initial: int = 0, **other: Any) -> _Meter:
        self._done = 0
        self.update(initial)
        return self

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def update(self, count: float | None = 1) -> None:
        self._done += int(count or 0)
        self._on_fetching(Fetching(**self._fixed, done=self._before + self._done, total=self._total))


def _fetch_blob(listing: Listing, file: RemoteFile, hub: Hub, meter: _Meter) -> None:
    """Bring a file's content to its place in the cache, going on from what an earlier run left."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    blob = repository_folder(listing.repo, hub) / "blobs" / file.checksum
    partial = blob.with_name(f"{file.checksum}.incomplete")
    lock = hub.cache_folder / ".locks" / blob.parent.parent.name / f"{file.checksum}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if _is_there(blob, file):
            return
        with _quiet_client(), partial.open("ab") as target:
            if target.tell() > file.size:
                target.seek(0)
                target.truncate()
            try:
                http_get(
                    hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=hub.address),
                    target,
                    resume_size=target.tell(),
                    headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                    expected_size=file.size,
                    tqdm_class=meter,  # type: ignore[arg-type]
                )
            except OSError as error:
                if _is_about_size(error):
                    raise _spoilt(listing, file, partial, "size") from None
                raise
        if _checksum(partial, file) != file.checksum:
            raise _spoilt(listing, file, partial, "checksum")
        os.replace(partial, blob)


def _is_there(path: Path, file: RemoteFile) -> bool:
    """Whether a file, or what a link leads to, is whole by its size."""
    return path.exists() and path.stat().st_size == file.size


def _is_about_size(error: OSError) -> bool:
    """Whether a transfer ended with another number of bytes than announced, or the rest does not exist."""
    response = getattr(error, "response", None)
    return response.status_code == 416 if response is not None else error.errno is None


def _spoilt(listing: Listing, file: RemoteFile, partial: Path, what: str) -> WeightsError:
    partial.unlink()
    return WeightsError(
        f"{file.path} of {listing.repo} does not have the {what} that the Hub announced; what came was "
        "deleted: fetch it again"
    )


def _checksum(path: Path, file: RemoteFile) -> str:
    """The checksum of a file's content, of the kind that the Hub gives for it."""
    git = functools.partial(hashlib.sha1, b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        return hashlib.file_digest(content, hashlib.sha256 if len(file.checksum) == 64 else git).hexdigest()


def _link(listing: Listing, file: RemoteFile, hub: Hub) -> None:
    """Let huggingface_hub place a file, whose content is in the cache, in the snapshot."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        listing.repo, file.path, revision=listing.commit, endpoint=hub.address, cache_dir=hub.cache_folder
    )


def _check_space(files: list[RemoteFile], storage: Path) -> None:
    """Raise WeightsError if the files do not fit on the disk, what is there of them taken into account."""
    there = (storage / "blobs" / (file.checksum + end) for file in files for end in ("", ".incomplete"))
    needed = sum(file.size for file in files) - sum(path.stat().st_size for path in there if path.exists())
    existing = next(path for path in (storage, *storage.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise WeightsError(
            f"{needed / 1e9:.1f} GB are to be fetched, but {existing} has only {free / 1e9:.1f} GB free; "
            "make room, or set HF_HOME to a folder on another disk"
        )


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Without the client's own warnings about every attempt; what it gives up on is raised."""
    logger = logging.getLogger("huggingface_hub.file_download")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
