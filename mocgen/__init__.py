"""mocgen: long multi-shot video generation with Mixture of Contexts. Importing it loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mocgen.errors import MocgenError
from mocgen.settings import Result, Settings
from mocgen.storyboard import Scene, Shot, load_storyboard, scene_from_prompts

if TYPE_CHECKING:
    from mocgen.pipeline import extend, generate, inspect_routing

__version__ = "0.1.0"

__all__ = [
    "MocgenError",
    "Result",
    "Scene",
    "Settings",
    "Shot",
    "extend",
    "generate",
    "inspect_routing",
    "load_storyboard",
    "scene_from_prompts",
]

_NEEDS_TORCH = ("extend", "generate", "inspect_routing")


def __getattr__(name: str) -> Any:
    """The functions that need torch: their module is imported when one is first asked for."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'mocgen' has no attribute {name!r}")
    from mocgen import pipeline

    return getattr(pipeline, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
