"""Every clip that cannot be used is refused with one clear line."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from mocgen.errors import ClipError
from mocgen.video import clip, probe, read_frames


def check(path: Path, *words: str) -> None:
    """Both readers refuse the clip, in one line that names it and says what is wrong."""
    for attempt in (lambda: probe(path), lambda: list(read_frames(path))):
        with pytest.raises(ClipError) as caught:
            attempt()
        message = str(caught.value)
        assert "\n" not in message
        assert str(path) in message
        for word in words:
            assert word in message


def test_missing(tmp_path: Path) -> None:
    check(tmp_path / "none.mp4", "no such file")


def test_directory(tmp_path: Path) -> None:
    check(tmp_path, "directory")


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    check(path, "empty")


@pytest.mark.parametrize("name", ["text.mp4", "text.txt", "text.nfo"])
def test_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("This is no video at all.\n" * 40)
    check(path, "not a video")


def test_playlist_does_not_reach_other_files(clips, tmp_path: Path) -> None:
    clips.make("a.mp4")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile clips/a.mp4\n")
    check(path, "not a video")


def test_truncated_before_its_index(clips) -> None:
    path = clips.make("cut.mp4", frames=60)
    path.write_bytes(path.read_bytes()[:-2000])  # the index is at the end
    check(path, "truncated")


@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_truncated_after_its_index(clips, kept: float) -> None:
    path = clips.make("cut.mp4", frames=60, options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    check(path, "truncated")


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi"])
def test_truncated_elsewhere(clips, name: str) -> None:
    path = clips.make(name, frames=120)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    check(path, "truncated")


def test_sound_only(clips) -> None:
    check(clips.sound_only("sound.mp4"), "no picture")


def test_damaged_picture_data(clips) -> None:
    path = clips.make("noise.mp4", frames=24)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(data))
    check(path)


def test_name_that_is_too_long(tmp_path: Path) -> None:
    check(tmp_path / ("v" * 300 + ".mp4"), "no such file")


def test_link_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "loop.mp4"
    path.symlink_to(path)
    check(path, "no such file")


def test_an_interrupt_while_a_decoder_closes_is_not_lost(clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what is raised in a generator that is merely let go."""

    def interrupted(self: clip.Clip) -> Generator[str]:
        try:
            yield "a frame"
        finally:
            raise KeyboardInterrupt

    with clip.open_clip(clips.make("clip.mp4")) as opened:
        monkeypatch.setattr(clip.Clip, "frames", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened.first_frame()
