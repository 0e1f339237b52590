"""Keys and values of finished shots: a few in host memory, the rest in a temporary file."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tensor lies in the file, and what it looks like."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype


class SpillingStore:
    """Tensors by key. Those that were not used lately move to a temporary file and come back on demand.

    `host_bytes` is what may stay in memory. The system caches the file as it sees fit, so a small number
    costs little time; it keeps the memory of the process flat however long a scene grows.
    """

    def __init__(self, host_bytes: int = 16 << 20) -> None:
        self._host_bytes = host_bytes
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()  # least recently used first
        self._held_bytes = 0
        self._places: dict[Hashable, _Place] = {}
        self._file: IO[bytes] | None = None

    def put(self, key: Hashable, value: Tensor) -> None:
        """Keep a tensor on the CPU. A key is put once. Raises OSError when the disk is full."""
        self._hold(key, value)

    def get(self, key: Hashable) -> Tensor:
        """The tensor that was put under the key. Raises KeyError."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        place = self._places[key]
        value = torch.empty(place.shape, dtype=place.dtype)
        assert self._file is not None
        self._file.seek(place.offset)
        self._file.readinto(_bytes(value))  # type: ignore[attr-defined]
        self._hold(key, value)
        return value

    def _hold(self, key: Hashable, value: Tensor) -> None:
        self._held[key] = value
        self._held_bytes += value.nbytes
        while self._held_bytes > self._host_bytes and len(self._held) > 1:
            oldest, tensor = self._held.popitem(last=False)
            self._held_bytes -= tensor.nbytes
            if oldest not in self._places:
                self._places[oldest] = self._write(tensor)

    def _write(self, value: Tensor) -> _Place:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="mocgen-memory-")  # noqa: SIM115 (lives as long as this)
        offset = self._file.seek(0, 2)
        self._file.write(_bytes(value))
        return _Place(offset=offset, shape=value.shape, dtype=value.dtype)


def _bytes(value: Tensor) -> memoryview:
    return value.view(torch.uint8).numpy().data
