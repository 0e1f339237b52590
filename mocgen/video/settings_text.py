"""How a run's settings are written into a file: one JSON text that any container can hold as its comment."""

from __future__ import annotations

import json
from collections.abc import Mapping

_KEY = "mocgen"


def settings_text(settings: Mapping[str, str]) -> str:
    """Settings as JSON text."""
    return json.dumps({_KEY: dict(settings)}, ensure_ascii=False)


def settings_from_text(text: str) -> dict[str, str]:
    """Settings from such a text; empty if it is something else."""
    try:
        settings = json.loads(text)[_KEY]
    except (ValueError, TypeError, KeyError):
        return {}
    return {str(key): str(value) for key, value in settings.items()} if isinstance(settings, dict) else {}
