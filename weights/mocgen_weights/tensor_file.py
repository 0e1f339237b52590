"""One safetensors file, read tensor by tensor without mapping it into memory.

The format: 8 bytes with the header's length (little-endian), the header (JSON: name → dtype, shape and
the place of the bytes), then the bytes of all tensors, without gaps.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import WeightsError

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_HEADER_LIMIT = 100_000_000  # bytes; that of the safetensors library
_CHUNK = 8 << 20  # bytes that are read and converted at a time


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies: its bytes are `path`[begin:end]."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """All tensors of a safetensors file by name.

    Raises:
        WeightsError: it cannot be read, is truncated or not safetensors, or its header contradicts itself:
            absurd length, unknown dtype, bytes outside the file, overlapping or with gaps.
    """
    raw, begin, size = _parse(path)
    raw.pop("__metadata__", None)
    entries = {name: _entry(path, name, facts, begin) for name, facts in raw.items()}
    _check_places(path, entries, begin, size)
    return entries


def read_metadata(path: Path) -> dict[str, str]:
    """The free texts in a safetensors file's header; raises what `read_header` raises."""
    found = _parse(path)[0].get("__metadata__")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _parse(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, where it ends, and the size of the file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_HEADER_LIMIT, size - 8):
                raise _bad(path, f"a header of {length} bytes in a file of {size}")
            raw = json.loads(file.read(length), object_pairs_hook=_unique)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise _bad(path, "its header is not JSON") from None
    if not isinstance(raw, dict):
        raise _bad(path, "its header is no JSON object")
    return raw, 8 + length, size


def read_into(entry: TensorEntry, target: Tensor) -> None:
    """Fill a contiguous tensor of the entry's shape, converting to its dtype and device piece by piece.

    Raises:
        WeightsError: the file cannot be read or has become shorter, or a value is not finite.
    """
    flat = target.view(-1)
    step = _CHUNK // entry.dtype.itemsize
    direct = target.dtype == entry.dtype and target.device.type == "cpu"
    piece = torch.empty(0 if direct else min(step, flat.numel()), dtype=entry.dtype)
    try:
        with entry.path.open("rb", buffering=0) as file:
            file.seek(entry.begin)
            for start in range(0, flat.numel(), step):
                wanted = flat[start : start + step]
                source = wanted if direct else piece[: len(wanted)]
                _fill(file, source, entry.path)
                if not direct:
                    wanted.copy_(source)
                if wanted.is_floating_point() and not _all_finite(wanted):
                    raise WeightsError(f"{entry.path} holds values that are not finite")
    except OSError as error:
        raise WeightsError(f"{entry.path} cannot be read: {error.strerror or error}") from None


def _fill(file: Any, tensor: Tensor, path: Path) -> None:
    """Read bytes of an unbuffered file into a contiguous CPU tensor until it is full."""
    view = memoryview(tensor.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while view:
        count = file.readinto(view)
        if not count:
            raise _bad(path, "it ends within a tensor")
        view = view[count:]


def _all_finite(values: Tensor) -> bool:
    """Whether all values are finite; a sum shows it in one pass, and only a huge sum needs a closer look."""
    values = values.to(torch.bfloat16) if values.dtype.itemsize == 1 else values
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _entry(path: Path, name: str, facts: Any, data: int) -> TensorEntry:
    """The entry that a header's line describes; `data` is where the tensors' bytes begin."""
    if not isinstance(facts, dict):
        raise _bad(path, f"nothing is said about tensor {name}")
    dtype = DTYPES.get(str(facts.get("dtype")))
    if dtype is None:
        raise WeightsError(f"{path}: tensor {name} is of the kind {facts.get('dtype')!r}, which is not known")
    shape, places = _counts(facts.get("shape")), _counts(facts.get("data_offsets"))
    if shape is None or places is None or len(places) != 2:
        raise _bad(path, f"tensor {name} has no shape or no place")
    begin, end = places
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise _bad(path, f"tensor {name} of shape {tuple(shape)} has {end - begin} bytes")
    return TensorEntry(path=path, dtype=dtype, shape=tuple(shape), begin=data + begin, end=data + end)


def _counts(value: Any) -> list[int] | None:
    """A list of whole numbers from 0, or None if the value is anything else."""
    fits = isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
    return value if fits else None


def _check_places(path: Path, entries: dict[str, TensorEntry], begin: int, size: int) -> None:
    """Raise WeightsError unless the tensors fill the file from `begin` to `size`."""
    reached = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != reached:
            what = "overlaps another" if entry.begin < reached else "lies after a gap"
            raise _bad(path, f"tensor {name} {what}")
        reached = entry.end
    if reached != size:
        raise _bad(path, f"its tensors end at byte {reached}, the file at byte {size}")


def _bad(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is truncated or not safetensors ({why}); fetch it again")
