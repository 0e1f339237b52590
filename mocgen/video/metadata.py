"""Reading back what was stored with a video: the settings of its run, and its attachment."""

from __future__ import annotations

from pathlib import Path

from mocgen.errors import ClipError
from mocgen.video.clip import clip_errors, open_clip
from mocgen.video.mp4box import read_appended
from mocgen.video.output import ATTACHMENT_FILE, SETTINGS_FILE
from mocgen.video.settings_text import settings_from_text


def read_metadata(path: Path) -> dict[str, str]:
    """The settings stored in an MP4, WebM, GIF or folder of PNGs that mocgen wrote.

    Empty for a video that was made by something else. Raises ClipError if `path` is no video and no such
    folder.
    """
    path = Path(path)
    if path.is_dir():
        return _folder_metadata(path)
    with open_clip(path) as clip:
        tags = {key.lower(): value for key, value in clip.container.metadata.items()}
    return settings_from_text(tags.get("comment", ""))


def read_attachment(path: Path) -> bytes | None:
    """The payload stored with an MP4 or a folder of PNGs; None if there is none. Raises ClipError."""
    path = Path(path)
    with clip_errors(path):
        if path.is_dir():
            stored = path / ATTACHMENT_FILE
            return stored.read_bytes() if stored.is_file() else None
        if not path.exists():
            raise ClipError(f"{path}: no such file. Check the path.")
        return read_appended(path)


def _folder_metadata(folder: Path) -> dict[str, str]:
    stored = folder / SETTINGS_FILE
    if not stored.is_file():
        raise ClipError(f"{folder}: is a folder without {SETTINGS_FILE}, so not one that mocgen wrote.")
    with clip_errors(stored):
        return settings_from_text(stored.read_text(encoding="utf-8", errors="replace"))
