"""Models that are known by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model that mocgen can run. `repo` is empty for the one that ships with the package.

    parameters: of the diffusion transformer; None where the exact number is not known.
    """

    name: str
    repo: str
    licence: str
    tasks: tuple[str, ...]
    summary: str
    parameters: int | None = None

    @property
    def page(self) -> str:
        """Where the repository is described, its licence included."""
        return f"https://huggingface.co/{self.repo}"

    @property
    def bytes_in_bf16(self) -> int | None:
        """Memory that the transformer's weights need in bf16, in bytes."""
        return None if self.parameters is None else 2 * self.parameters


CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name="embedded",
        repo="",
        licence="Apache-2.0",
        tasks=("generate", "extend", "inspect-routing"),
        summary="ships with mocgen: cartoon shapes in eight places, 96×96 at 8 frames a second",
    ),
    CatalogEntry(
        name="wan2.1-t2v-1.3b",
        repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        licence="Apache-2.0",
        tasks=("generate", "joint multi-shot"),
        summary="Wan 2.1, 480×832 at 16 frames a second; one noise level for all shots, so it cannot extend",
        parameters=1_418_996_800,
    ),
    CatalogEntry(
        name="wan2.1-t2v-14b",
        repo="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        licence="Apache-2.0",
        tasks=("generate", "joint multi-shot"),
        summary="the large Wan 2.1; one noise level for all shots, so it cannot extend",
    ),
    CatalogEntry(
        name="wan2.2-ti2v-5b",
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        licence="Apache-2.0",
        tasks=("generate", "extend", "multi-shot"),
        summary="Wan 2.2, 704×1280 at 24 frames a second; a noise level per frame",
        parameters=4_999_787_712,
    ),
    CatalogEntry(
        name="skyreels-v2-df-1.3b",
        repo="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
        licence="Skywork's own",
        tasks=("generate", "extend", "multi-shot"),
        summary="SkyReels V2 by diffusion forcing, in the shape of Wan 2.1; a noise level per frame",
    ),
)


def word_table_file() -> Path:
    """The table that unknown words of prompts are read with."""
    return Path(__file__).parent / "word_table.safetensors"


def embedded_folder() -> Path:
    """Folder of the checkpoint that ships with the package."""
    return Path(__file__).parent / "embedded"


def find_entry(model: str) -> CatalogEntry | None:
    """What the catalogue says about a name or a repository."""
    return next((entry for entry in CATALOG if model and model in (entry.name, entry.repo)), None)
