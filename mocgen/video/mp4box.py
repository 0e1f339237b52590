"""Top-level boxes of MP4 files, and our own payload in one of them.

ISO/IEC 14496-12: a box is a 32-bit big-endian size, a four-byte kind and the content; size 1 says that a
64-bit size follows the kind, size 0 that the box reaches to the end of the file. A box of kind `uuid` begins
with 16 bytes that name its owner; players skip those that they do not know. Appended after everything else
it moves no other byte, so the offsets in the index stay right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

ATTACHMENT_UUID = UUID("6d6f6367-656e-4c61-8e74-6c6174656e74")  # names the box that holds our payload
_LARGEST_32_BIT_SIZE = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where one box lies in its file, in bytes."""

    kind: bytes
    content: int  # offset of the content
    end: int  # offset of the first byte after the box


def top_level_boxes(path: Path) -> Iterator[Box]:
    """The boxes of a file in order; stops at the first thing that is no whole box. Raises OSError."""
    with path.open("rb") as file:
        length = file.seek(0, 2)
        start = 0
        while start + 8 <= length:
            file.seek(start)
            size, kind = struct.unpack(">I4s", file.read(8))
            content = start + 8
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
                content += 8
            end = start + size if size else length
            if end < content or end > length:
                return
            yield Box(kind=kind, content=content, end=end)
            start = end


def append_attachment(path: Path, payload: bytes) -> None:
    """Append `payload` to a finished MP4 file as a `uuid` box. Raises OSError."""
    size = 8 + 16 + len(payload)
    if size <= _LARGEST_32_BIT_SIZE:
        header = struct.pack(">I4s", size, b"uuid")
    else:
        header = struct.pack(">I4sQ", 1, b"uuid", size + 8)
    with path.open("ab") as file:
        file.write(header + ATTACHMENT_UUID.bytes)
        file.write(payload)


def read_appended(path: Path) -> bytes | None:
    """The payload that `append_attachment` stored, or None. Raises OSError."""
    for box in top_level_boxes(path):
        if box.kind == b"uuid" and box.end - box.content >= 16:
            with path.open("rb") as file:
                file.seek(box.content)
                if file.read(16) == ATTACHMENT_UUID.bytes:
                    return file.read(box.end - box.content - 16)
    return None
