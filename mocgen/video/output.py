"""Output files: the kind a name asks for, whether it may be written, how it appears only when complete."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import av

from mocgen.errors import OutputError, UsageError

SETTINGS_FILE = "metadata.json"  # in a folder of pictures
ATTACHMENT_FILE = "latents.safetensors"  # in a folder of pictures
FRAME_PATTERN = "frame_*.png"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputKind(Enum):
    """What an output's name asks for, by its suffix."""

    MP4 = ".mp4"
    WEBM = ".webm"
    GIF = ".gif"
    FOLDER = ""


def output_kind(path: Path | str) -> OutputKind:
    """The kind of output that `path` names; text ending in "/" is a folder. Raises UsageError for others."""
    name = Path(path).name
    if name in ("", "-") or name.lower() in (kind.value for kind in OutputKind) or name.endswith("."):
        raise UsageError(
            f"{str(path)!r} is no name for a video. Name a .mp4, .webm or .gif file, or a folder; "
            "videos are not written to standard output."
        )
    if str(path).endswith(("/", os.sep)) or os.path.isdir(path):
        return OutputKind.FOLDER
    suffix = Path(path).suffix.lower()
    try:
        return OutputKind(suffix)
    except ValueError:
        raise UsageError(
            f"{path}: cannot write {suffix}. Name the output .mp4, .webm or .gif, "
            "or give a name without suffix for a folder of PNGs."
        ) from None


def check_output(path: Path | str, overwrite: bool) -> OutputKind:
    """Check before any work that `path` can be written; leaves nothing behind.

    Raises UsageError for an unknown suffix, OutputError if the output exists (unless `overwrite`), is a
    folder that holds something else than our pictures, or its parent folder is missing or not writable.
    """
    kind = output_kind(path)
    path = Path(path)
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path}: there is no folder {path.parent}. Create it or choose another place.")
    if os.path.lexists(path):
        if not overwrite:
            raise OutputError(
                f"{path}: exists already. Choose another name, or pass --overwrite to replace it."
            )
        if path.is_dir():
            _check_ours(path)
        elif path.exists() and not path.is_file():
            raise OutputError(f"{path}: is neither a file nor a folder. Choose another name.")
    with output_errors(path):
        trial = part_path(path)
        trial.touch(exist_ok=False)
        trial.unlink()
    return kind


def part_path(path: Path) -> Path:
    """A new hidden name beside `path`, with the same suffix: where it is written until complete."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.part{path.suffix}"


def remove_part(part: Path) -> None:
    """Remove an unfinished output, file or folder, if it is there."""
    if part.is_dir():
        _remove_folder(part)
    else:
        part.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> None:
    """Of a link to a folder the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(part: Path, path: Path, *, overwrite: bool) -> None:
    """Give a complete output its final name in one step. Raises OutputError."""
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path}: has appeared meanwhile. Choose another name, or pass --overwrite.")
    with output_errors(path):
        if not path.is_dir():
            os.replace(part, path)
            return
        _check_ours(path)
        old = part_path(path)
        os.replace(path, old)
        os.replace(part, path)
        _remove_folder(old)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what libav and the system raise while writing `path` into an OutputError."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno in _NO_ROOM:
            raise OutputError(
                f"{path}: the disk is full. Free some space, or choose another place with -o."
            ) from error
        reason = str(error.strerror or error).lower()
        raise OutputError(f"{path}: cannot be written ({reason}). Choose another place with -o.") from error


def _check_ours(folder: Path) -> None:
    """Replacing a folder deletes what is in it: only our own pictures may go."""
    for entry in folder.iterdir():
        if entry.name not in (SETTINGS_FILE, ATTACHMENT_FILE) and not entry.match(FRAME_PATTERN):
            raise OutputError(
                f"{folder}: holds other files ({entry.name}) that would be deleted. Choose another name."
            )
