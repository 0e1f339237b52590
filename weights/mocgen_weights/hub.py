"""Where a model's files are: shipped, in a local folder, or on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from .cache import Hub, Snapshot, find_cached
from .catalog import embedded_folder, find_entry
from .download import Fetching, OnFetching, fetch, list_repository
from .errors import WeightsError
from .hub_failures import Unreachable
from .repository import CONFIG_NAME, INDEX_NAME, TENSORS_NAME

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_SAMPLE = 1 << 20  # bytes at either end of a large file that its digest is made of


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A model's folder on this machine, and the exact revision of what lies there."""

    folder: Path
    revision: str


def ignore(fetching: Fetching) -> None:
    """Listens to nothing."""


def resolve(model: str, hub: Hub | None = None, on_fetching: OnFetching = ignore) -> Resolved:
    """Find the files of a name of the catalogue, a local folder, or HUB_ID[@REV] (cached or fetched).

    A branch (without @REV: main) is looked up on the Hub each time; without a connection, what it stood for
    last is used. The revision is the commit for a Hub model, otherwise a digest of the files.

    Raises:
        WeightsError: the name is unknown, or the files cannot be fetched.
    """
    if model == "embedded":
        return _local(embedded_folder())
    if Path(model).is_dir():
        return _local(Path(model))
    repo, revision = hub_id(model)
    snapshot = pull(repo, revision, hub or Hub(), on_fetching)
    return Resolved(folder=snapshot.folder, revision=snapshot.commit)


def hub_id(model: str) -> tuple[str, str | None]:
    """The repository and the revision (None: not said) of NAME[@REV] in the catalogue, or HUB_ID[@REV].

    Raises:
        WeightsError: it is neither.
    """
    name, at, revision = model.partition("@")
    entry = find_entry(name)
    match = _HUB_ID.fullmatch(f"{entry.repo}{at}{revision}" if entry and entry.repo else model)
    if not match or model.startswith((".", "/")) or ".." in revision.split("/"):
        raise WeightsError(
            f"unknown model: {model}; use one that `mocgen models` lists, a folder with {CONFIG_NAME} and "
            f"{TENSORS_NAME} (or {INDEX_NAME}), or a Hub repository such as owner/name[@revision]"
        )
    return match["repo"], match["revision"]


def pull(repo: str, revision: str | None, hub: Hub, on_fetching: OnFetching = ignore) -> Snapshot:
    """A repository at a revision, from the cache or the Hub; what lies in the cache is not fetched again.

    Raises:
        WeightsError: it cannot be fetched and is not (or not completely) in the cache.
    """
    cached = find_cached(repo, revision, hub)
    if cached and revision == cached.commit:
        return cached
    if hub.is_offline:
        if cached:
            return cached
        raise WeightsError(_absent(repo, "offline"))
    try:
        listing = list_repository(repo, revision, hub)
    except Unreachable as error:
        if cached:
            return cached
        raise WeightsError(_absent(repo, error.reason)) from None
    return fetch(listing, revision, hub, on_fetching)


def _absent(repo: str, reason: str) -> str:
    return (
        f"{repo} is no folder here and not in the local cache, and the Hub cannot be reached ({reason}); "
        "check the name and the connection"
    )


def _local(folder: Path) -> Resolved:
    """A folder, with a digest of its files; of large ones their size and both ends count."""
    digest = hashlib.sha256()
    if (folder / INDEX_NAME).is_file():
        files = sorted(path for end in ("json", "safetensors") for path in folder.glob(f"**/*.{end}"))
    else:
        files = [folder / name for name in (CONFIG_NAME, TENSORS_NAME)]
    for path in files:
        if path.is_file():
            digest.update(_digest(path))
    return Resolved(folder=folder, revision=digest.hexdigest()[:12])


def _digest(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < 64 * _SAMPLE:
            return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256(size.to_bytes(8, "little") + file.read(_SAMPLE))
        file.seek(-_SAMPLE, 2)
        digest.update(file.read())
        return digest.digest()
