"""What mocgen wrote into a video about how it was made → the scene and the settings to make it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mocgen.errors import ClipError, UsageError
from mocgen.settings import Settings
from mocgen.storyboard import Scene, Shot


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The request that a video was made from."""

    scene: Scene
    settings: Settings
    context_seconds: float | None = None  # of the clip, if it extends one


def read_recorded(path: Path, *, extends: bool = False) -> Recorded:
    """The request for a video that was generated or, with `extends`, made by extending a clip.

    Raises:
        ClipError: the file cannot be read, or holds nothing that mocgen wrote.
        UsageError: the video was made the other way, or by a mocgen whose settings are not known here.
    """
    record = read_record(path)
    if record is None:
        raise ClipError(f"{path} does not say how it was made: not by mocgen, or another program rewrote it")
    if (record.get("command") == "extend") != extends:
        raise UsageError(
            f"{path} does not extend a clip; mocgen generate --repeat makes it again"
            if extends
            else f"{path} extends another clip; mocgen extend CLIP --repeat {path} makes it again"
        )
    try:
        scene = Scene(
            prompt=record["prompt"],
            shots=tuple(_shot(shot) for shot in record["shots"]),
            clip_prompts=tuple(record.get("clip_prompts", ())),
        )
        settings = _settings(record["settings"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} was made by mocgen {record.get('version', '?')}, which recorded other settings ({error})"
        ) from error
    return Recorded(
        scene=scene,
        settings=_pin(settings, record.get("revision")),
        context_seconds=record.get("context_seconds"),
    )


def read_record(path: Path) -> dict[str, Any] | None:
    """What mocgen wrote into the file's metadata, or None if it wrote nothing.

    Raises:
        ClipError: the file cannot be read as video.
    """
    from mocgen.video import read_metadata

    text = read_metadata(path).get("mocgen")
    if text is None:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _shot(item: dict[str, Any]) -> Shot:
    return Shot(caption=item["caption"], seconds=item.get("seconds"))


def _settings(values: dict[str, Any]) -> Settings:
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise KeyError(", ".join(unknown))
    size = values.get("size")
    lists = {"size": tuple(size) if size else None, "lora": tuple(values.get("lora") or ())}
    return Settings(**{**values, **lists})


def _pin(settings: Settings, revision: str | None) -> Settings:
    """A hub model is taken at the revision that was used, not at its newest one."""
    model = settings.model
    if model == "embedded" or "@" in model or not revision or Path(model).exists():
        return settings
    from mocgen_weights import find_entry

    from_hub = "/" in model or find_entry(model) is not None
    return replace(settings, model=f"{model}@{revision}") if from_hub else settings
