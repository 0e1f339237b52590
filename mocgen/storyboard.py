"""Prompts or a storyboard file → a Scene of Shots."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mocgen.errors import UsageError
from mocgen.settings import check_seconds


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One continuous take: its caption and, if it differs from the default, its length in seconds."""

    caption: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A list of shots, the global prompt that all of them see (may be empty), and captions of a clip."""

    shots: tuple[Shot, ...]
    prompt: str = ""
    clip_prompts: tuple[str, ...] = ()  # what the clip before them shows: all of it, or each of its shots


def scene_from_prompts(prompts: Sequence[str]) -> Scene:
    """One shot per prompt, in order.

    Raises:
        UsageError: no prompts at all, or one that is empty or not text.
    """
    if not prompts:
        raise UsageError(
            "no prompt: say what each shot shows, one quoted text per shot, or name a --storyboard"
        )
    names = ["the prompt"] if len(prompts) == 1 else [f"prompt {n}" for n in range(1, len(prompts) + 1)]
    return Scene(
        shots=tuple(Shot(caption=_caption(text, name)) for text, name in zip(prompts, names, strict=True))
    )


def with_clip_prompts(scene: Scene, prompts: Sequence[str]) -> Scene:
    """The scene after a clip that shows this: one text for all of the clip, or one for each of its shots.

    Raises:
        UsageError: a text is empty or not text.
    """
    return replace(scene, clip_prompts=tuple(_caption(text, "a clip prompt") for text in prompts))


def load_storyboard(path: Path) -> Scene:
    """Reads a scene from a .toml or .json file, or from a .txt file with one caption a line.

    TOML and JSON have the keys `prompt` (optional, seen by every shot) and `shots`: a list whose items are
    captions or tables with `caption` and, optionally, `seconds`. JSON may also be that list alone. In .txt,
    empty lines and lines that begin with `#` are skipped.

    Raises:
        UsageError: the file cannot be read, has a syntax error (named with its line), an unknown key, a bad
            value, or no shots.
    """
    readers = {".toml": _parse_toml, ".json": _parse_json, ".txt": _parse_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: a storyboard is a .toml, .json or .txt file")
    try:
        content = reader(_read_text(path), path)
    except RecursionError:
        raise UsageError(f"{path}: not a storyboard: nested too deeply") from None
    return _scene(content, path)


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such storyboard file") from None
    except OSError as error:
        raise UsageError(f"{path}: the storyboard cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def _parse_toml(text: str, path: Path) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = int(position[1]) if position and position[1] else len(text.splitlines())
        reason = message[: position.start()] if position else message
        raise UsageError(f"{path}, line {line}: not valid TOML: {reason}") from None
    except ValueError:
        raise UsageError(f"{path}: not valid TOML: a number is too long") from None


def _parse_json(text: str, path: Path) -> object:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except ValueError:
        raise UsageError(f"{path}: not valid JSON: a number is too long") from None


def _unique(pairs: list[tuple[str, object]], path: Path) -> dict[str, object]:
    """An object of JSON, in which no key may stand twice."""
    found = dict[str, object]()
    for key, value in pairs:
        if key in found:
            raise UsageError(f"{path}: {key!r} stands twice in one object")
        found[key] = value
    return found


def _parse_lines(text: str, path: Path) -> object:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _scene(content: object, path: Path) -> Scene:
    table = {"shots": content} if isinstance(content, list) else content
    if not isinstance(table, dict):
        raise UsageError(f"{path}: a storyboard holds a list of shots")
    _refuse_unknown_keys(table, ("prompt", "shots"), str(path))
    shots = table.get("shots", [])
    if not isinstance(shots, list):
        raise UsageError(f"{path}: shots must be a list ([[shots]] in TOML)")
    if not shots:
        raise UsageError(f"{path}: the storyboard has no shots; give at least one caption")
    prompt = table.get("prompt", "")
    if not isinstance(prompt, str):
        raise UsageError(f"{path}: prompt must be text")
    return Scene(
        shots=tuple(_shot(item, f"{path}, shot {n}") for n, item in enumerate(shots, start=1)),
        prompt=_caption(prompt, f"{path}: prompt") if prompt else "",
    )


def _shot(item: object, where: str) -> Shot:
    if isinstance(item, str):
        return Shot(caption=_caption(item, f"{where}: the caption"))
    if not isinstance(item, dict):
        raise UsageError(f"{where}: must be a caption, or a table with a caption and seconds")
    _refuse_unknown_keys(item, ("caption", "seconds"), where)
    caption = item.get("caption", "")
    if not isinstance(caption, str):
        raise UsageError(f"{where}: the caption must be text")
    seconds = item.get("seconds")
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise UsageError(f"{where}: seconds must be a number")
        check_seconds(seconds, f"{where}: seconds")
    return Shot(caption=_caption(caption, f"{where}: the caption"), seconds=seconds)


def _caption(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} is not valid UTF-8 text") from None
    if not text.strip():
        raise UsageError(f"{name} is empty; say what the shot shows")
    return text.strip()


def _refuse_unknown_keys(table: dict[str, object], known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in table if key not in known]
    if unknown:
        names = ", ".join(repr(key) for key in unknown)
        keys = "keys" if len(unknown) > 1 else "key"
        raise UsageError(f"{where}: unknown {keys} {names}; the keys are {', '.join(known)}")
