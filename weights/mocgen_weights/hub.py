"""Where a model's files are: shipped, in a local folder, or on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from .catalog import embedded_folder
from .errors import WeightsError
from .files import CONFIG_NAME, TENSORS_NAME

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A model's folder on this machine, and the exact revision of what lies there."""

    folder: Path
    revision: str


def resolve(model: str) -> Resolved:
    """Find the files of "embedded", a local folder, or HUB_ID[@REV] (fetched, or found in the Hub's cache).

    The revision is the commit for a Hub model, otherwise a digest of the weights.

    Raises:
        WeightsError: the name is unknown, or the files cannot be fetched.
    """
    if model == "embedded":
        return _local(embedded_folder())
    if Path(model).is_dir():
        return _local(Path(model))
    match = _HUB_ID.fullmatch(model)
    if not match or model.startswith((".", "/")):
        raise WeightsError(
            f"unknown model: {model}; use 'embedded', a folder with {CONFIG_NAME} and {TENSORS_NAME}, "
            "or a Hub repository such as owner/name[@revision]"
        )
    return _fetch(match["repo"], match["revision"])


def _local(folder: Path) -> Resolved:
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, TENSORS_NAME):
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return Resolved(folder=folder, revision=digest.hexdigest()[:12])


def _fetch(repo: str, revision: str | None) -> Resolved:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[CONFIG_NAME, TENSORS_NAME]))
    except RepositoryNotFoundError:
        raise WeightsError(
            f"{repo} is no folder here, and there is no such repository on the Hub (or it is private)"
        ) from None
    except LocalEntryNotFoundError:
        raise WeightsError(
            f"{repo} is no folder here and not in the local cache, and the Hub cannot be reached; "
            "check the name and the connection"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise WeightsError(f"cannot fetch {repo} from the Hub: {str(error).splitlines()[0]}") from None
    return Resolved(folder=folder, revision=folder.name)  # a snapshot's folder is named by its commit
