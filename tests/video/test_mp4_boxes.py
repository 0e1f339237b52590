"""The box that carries a payload at the end of an MP4, also where sizes or contents are odd."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mocgen.video import mp4box
from mocgen.video.mp4box import ATTACHMENT_UUID, append_attachment, read_appended, top_level_boxes


def test_append_and_read(clips) -> None:
    path = clips.make("a.mp4")
    before = [box.kind for box in top_level_boxes(path)]
    append_attachment(path, b"latents")
    assert [box.kind for box in top_level_boxes(path)] == [*before, b"uuid"]
    assert read_appended(path) == b"latents"


def test_large_sizes_take_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(struct.pack(">I4s", 8, b"ftyp"))
    monkeypatch.setattr(mp4box, "_LARGEST_32_BIT_SIZE", 20)
    append_attachment(path, b"latents")
    assert path.read_bytes()[8:24] == struct.pack(">I4sQ", 1, b"uuid", 32 + len(b"latents"))
    assert read_appended(path) == b"latents"


def test_boxes_of_others_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    other = struct.pack(">I4s", 8 + 16 + 3, b"uuid") + bytes(16) + b"abc"
    path.write_bytes(other)
    assert read_appended(path) is None
    append_attachment(path, b"")
    assert read_appended(path) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"\0\0\0\x04uuid",  # smaller than its own header
        struct.pack(">I4sQ", 1, b"uuid", 2**63),
        struct.pack(">I4s", 10_000, b"uuid") + ATTACHMENT_UUID.bytes + b"cut short",
        b"plain text, no boxes at all",
    ],
)
def test_damaged_files_hold_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert read_appended(path) is None
