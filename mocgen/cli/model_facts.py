"""What is known about a model: from its folder, or from the catalogue, the cache and the Hub."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mocgen_weights
from mocgen_weights import Hub, WeightsError

_PARTS = ("transformer", "vae", "text_encoder")


def folder_facts(model: str, folder: Path) -> dict[str, object]:
    """Form, architecture, parameters and sizes of the model in a folder.

    Raises:
        WeightsError: it holds no model, or a broken one.
    """
    mocgen_weights.check_folder(folder)
    entry = mocgen_weights.find_entry(model)
    parts = [name for name in _PARTS if (folder / name).is_dir()]
    tensors = {
        f"{part}/{name}": tensor
        for part in parts or [""]
        for name, tensor in mocgen_weights.read_checkpoint(folder / part).items()
    }
    return {
        "model": model,
        "form": "diffusers" if parts else "mocgen",
        "architecture": _architecture(folder),
        "licence": entry.licence if entry else "",
        "tasks": list(entry.tasks) if entry else [],
        "parameters": sum(math.prod(t.shape) for t in tensors.values() if t.dtype.is_floating_point),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "weights_bytes": sum(tensor.end - tensor.begin for tensor in tensors.values()),
        "revision": mocgen_weights.resolve(str(folder)).revision,
        "folder": str(folder),
    }


def repository_facts(repo: str, revision: str | None, hub: Hub) -> dict[str, object]:
    """What the catalogue, the cache and, unless offline, the Hub say about a repository.

    Raises:
        WeightsError: the Hub does not have it, or it is neither cached nor can the Hub be asked.
    """
    entry = mocgen_weights.find_entry(repo)
    cached = mocgen_weights.find_cached(repo, revision, hub)
    size = mocgen_weights.cached_bytes(repo, hub)
    facts: dict[str, object] = {
        "model": entry.name if entry else repo,
        "repository": repo,
        "what_it_is": entry.summary if entry else "",
        "licence": entry.licence if entry else "",
        "page": entry.page if entry else "",
        "tasks": list(entry.tasks) if entry else [],
        "transformer_parameters": entry.parameters if entry else None,
        "transformer_in_bf16_bytes": entry.bytes_in_bf16 if entry else None,
        "revision": cached.commit if cached else None,
        "files": None,
        "all_files_bytes": None,
        "cached": "yes" if cached else "in part" if size else "no",
        "size_in_cache_bytes": size,
        "folder": str(cached.folder) if cached else "",
    }
    if hub.is_offline:
        if not cached and not entry:
            raise WeightsError(f"{repo} is not in the local cache, and the Hub cannot be asked (offline)")
        return facts
    try:
        listing = mocgen_weights.list_repository(repo, revision, hub)
    except mocgen_weights.Unreachable:
        if not cached and not entry:
            raise
        return facts
    return facts | {
        "licence": facts["licence"] or listing.licence,
        "revision": listing.commit,
        "files": len(listing.files),
        "all_files_bytes": sum(file.size for file in listing.files),
    }


def _architecture(folder: Path) -> str:
    """What a model's own configuration calls it."""
    for name, key in (("model_index.json", "_class_name"), ("config.json", "architecture")):
        if (folder / name).is_file():
            try:
                return str(json.loads((folder / name).read_text(encoding="utf-8"))[key])
            except (ValueError, KeyError, TypeError):
                return ""
    return ""
