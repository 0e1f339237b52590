"""Models that are known by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model that mocgen can run. `repo` is empty for the one that ships with the package."""

    name: str
    repo: str
    licence: str
    tasks: tuple[str, ...]
    summary: str


CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name="embedded",
        repo="",
        licence="Apache-2.0",
        tasks=("generate", "extend", "inspect-routing"),
        summary="ships with mocgen: cartoon shapes in eight places, 96×96 at 8 frames a second",
    ),
)


def word_table_file() -> Path:
    """The table that unknown words of prompts are read with."""
    return Path(__file__).parent / "word_table.safetensors"


def embedded_folder() -> Path:
    """Folder of the checkpoint that ships with the package."""
    return Path(__file__).parent / "embedded"
