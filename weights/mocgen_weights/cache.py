"""The Hub's cache on this machine: what lies there, where, and how it is removed.

Its layout is that of huggingface_hub ("Understand caching" in its documentation): `blobs` by checksum,
`snapshots` by commit with links to them, `refs` with the commit of every branch that was asked for.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import WeightsError
from .repository import check_folder

DEFAULT_REVISION = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where repositories come from and where they are kept. None: as the environment says.

    offline: only what lies in the cache is used (so, too, with HF_HUB_OFFLINE=1).
    """

    endpoint: str | None = None
    cache: Path | None = None
    offline: bool = False

    @property
    def address(self) -> str:
        """The endpoint; HF_ENDPOINT unless one is given."""
        from huggingface_hub import constants

        return self.endpoint or constants.ENDPOINT

    @property
    def cache_folder(self) -> Path:
        """HF_HUB_CACHE, or `hub` in HF_HOME."""
        from huggingface_hub import constants

        return (self.cache or Path(constants.HF_HUB_CACHE)).expanduser().resolve()

    @property
    def is_offline(self) -> bool:
        from huggingface_hub import is_offline_mode

        return self.offline or is_offline_mode()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository's files at one commit."""

    folder: Path
    commit: str


def repository_folder(repo: str, hub: Hub) -> Path:
    """The folder of the cache that keeps a repository."""
    return hub.cache_folder / f"models--{repo.replace('/', '--')}"


def find_cached(repo: str, revision: str | None, hub: Hub) -> Snapshot | None:
    """What the cache holds of a repository at a revision, if it is complete."""
    storage = repository_folder(repo, hub)
    commit = revision or DEFAULT_REVISION
    ref = storage / "refs" / commit
    if not COMMIT.fullmatch(commit):
        if not ref.is_file():
            return None
        commit = ref.read_text(encoding="utf-8").strip()
    folder = storage / "snapshots" / commit
    try:
        check_folder(folder)
    except WeightsError:
        return None
    return Snapshot(folder=folder, commit=commit)


def note_revision(repo: str, revision: str, commit: str, hub: Hub) -> None:
    """Note down which commit a branch or tag stands for, for times without a network."""
    if revision == commit:
        return
    ref = repository_folder(repo, hub) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    partial = ref.with_name(f"{ref.name}.{os.getpid()}")
    partial.write_text(commit, encoding="utf-8")
    os.replace(partial, ref)


def cached_bytes(repo: str, hub: Hub) -> int:
    """How much disk a repository takes, interrupted downloads included; 0: it is not cached."""
    blobs = repository_folder(repo, hub) / "blobs"
    return sum(path.stat().st_size for path in blobs.glob("*") if path.exists())


def remove_cached(repo: str, hub: Hub) -> int:
    """Remove a repository from the cache; the number of bytes that this freed.

    Raises:
        WeightsError: it is not there, or cannot be removed.
    """
    storage = repository_folder(repo, hub)
    if not storage.is_dir():
        raise WeightsError(f"{repo} is not in the cache ({hub.cache_folder})")
    freed = cached_bytes(repo, hub)
    try:
        shutil.rmtree(storage)
    except OSError as error:
        raise WeightsError(f"{error.filename or storage} cannot be removed: {error.strerror}") from None
    return freed
