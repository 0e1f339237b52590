"""A checkpoint on disk: one safetensors file, or shards with an index."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .errors import WeightsError
from .tensor_file import TensorEntry, read_header

STEMS = ("model", "diffusion_pytorch_model")  # as transformers and diffusers name their files
_INDEX = ".safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def read_checkpoint(path: Path) -> dict[str, TensorEntry]:
    """All tensors by name of a safetensors file, an index file's shards, or a folder with either.

    Raises:
        WeightsError: nothing there, only pickles, more than one candidate, a broken file, or an index that
            is no index, names files outside its folder, or differs from what the shards hold.
    """
    if path.is_dir():
        path = _find(path)
    if path.name.endswith(_INDEX):
        return _read_shards(path)
    if not path.is_file():
        raise WeightsError(f"no such file or folder: {path}")
    return read_header(path)


def name_first(names: Iterable[str]) -> str:
    """The first three of many names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _find(folder: Path) -> Path:
    """The file of a folder that holds its weights."""
    usual = [folder / (stem + end) for stem in STEMS for end in (".safetensors", _INDEX)]
    found = next((path for path in usual if path.is_file()), None)
    if found is not None:
        return found
    names = sorted(path.name for path in folder.iterdir())
    indices = [name for name in names if name.endswith(_INDEX)]
    others = indices or [name for name in names if name.endswith(".safetensors")]
    if len(others) == 1:
        return folder / others[0]
    if others:
        raise WeightsError(f"{folder} holds several weights ({name_first(others)}); name one of the files")
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise WeightsError(
            f"{folder} holds only pickled weights ({name_first(pickles)}): reading them could run any code; "
            "convert them to safetensors"
        )
    raise WeightsError(f"{folder} holds no weights ({STEMS[0]}.safetensors or {STEMS[1]}.safetensors)")


def _read_shards(index: Path) -> dict[str, TensorEntry]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        listed = {str(name): str(file) for name, file in weight_map.items()}
    except OSError as error:
        raise WeightsError(f"{index} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WeightsError(f"{index} is no index of safetensors files; fetch it again") from None
    outside = [
        file for file in listed.values() if Path(file).name != file or not file.endswith(".safetensors")
    ]
    if outside:
        raise WeightsError(f"{index} names what is no safetensors file beside it: {outside[0]!r}")
    files = sorted(set(listed.values()))
    absent = [file for file in files if not (index.parent / file).is_file()]
    if absent:
        raise WeightsError(f"{index.parent} lacks what its index names: {name_first(absent)}; fetch it again")
    entries: dict[str, TensorEntry] = {}
    for file in files:
        shard = read_header(index.parent / file)
        differing = {name for name in shard if listed.get(name) != file}
        differing |= {name for name, where in listed.items() if where == file and name not in shard}
        if differing:
            raise WeightsError(
                f"{index} and {file} do not agree about {name_first(sorted(differing))}; fetch both again"
            )
        entries |= shard
    return entries
