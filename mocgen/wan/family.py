"""What a folder in the form of a diffusers pipeline holds, and what such a model does by default."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mocgen.errors import ModelError
from mocgen.model.wan_config import WanConfig, read_wan_config

INDEX = "model_index.json"
SCHEDULERS = ("UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
_SKYREELS_FORCED = (
    "SkyReelsV2DiffusionForcingPipeline",
    "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a kind of checkpoint was trained, and what its authors run it with."""

    name: str
    size: tuple[int, int]  # width and height in pixels
    fps: int
    frames: int
    guidance: float
    per_frame: bool  # takes a noise level for every latent frame, so a clip can be extended


WAN_T2V = Family(name="Wan2.1-T2V", size=(832, 480), fps=16, frames=81, guidance=5.0, per_frame=False)
WAN_TI2V = Family(name="Wan2.2-TI2V", size=(1280, 704), fps=24, frames=121, guidance=5.0, per_frame=True)
SKYREELS_T2V = Family(
    name="SkyReels-V2-T2V", size=(960, 544), fps=24, frames=97, guidance=6.0, per_frame=False
)
SKYREELS_DF = replace(SKYREELS_T2V, name="SkyReels-V2-DF", per_frame=True)


@dataclass(frozen=True, kw_only=True)
class PipelineFolder:
    """The parts of a pipeline that are known before its weights are read."""

    folder: Path
    family: Family
    transformer: WanConfig
    temporal: int  # frames for each latent frame after the first
    spatial: int  # pixels on each side of a latent
    scheduler: str  # its class

    @property
    def stride(self) -> int:
        """Width and height in pixels must be multiples of this."""
        return self.spatial * self.transformer.patch


def is_pipeline(folder: Path) -> bool:
    """Whether a folder has the form of a diffusers pipeline."""
    return (folder / INDEX).is_file()


def read_pipeline(folder: Path) -> PipelineFolder:
    """Read the configurations of a pipeline.

    Raises:
        ModelError: one is missing or broken, or describes what cannot be run.
    """
    index = _read(folder / INDEX)
    family = _family(index, folder)
    vae, scheduler = _read(folder / "vae" / "config.json"), _read(folder / "scheduler/scheduler_config.json")
    path = folder / "transformer" / "config.json"
    try:
        transformer = read_wan_config(_read(path))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} does not describe a transformer that can be run: {error}") from None
    channels = vae.get("z_dim", 16)
    if not transformer.in_channels == transformer.out_channels == channels:
        raise ModelError(
            f"{folder} is no text-to-video model: its transformer takes {transformer.in_channels} channels "
            f"and gives {transformer.out_channels}, its latents have {channels}"
        )
    if scheduler.get("_class_name") not in SCHEDULERS:
        raise ModelError(
            f"{folder} asks for the scheduler {scheduler.get('_class_name')!r}; "
            f"known are {' and '.join(SCHEDULERS)}"
        )
    return PipelineFolder(
        folder=folder,
        family=family,
        transformer=transformer,
        temporal=vae.get("scale_factor_temporal", 4),
        spatial=vae.get("scale_factor_spatial", 8),
        scheduler=scheduler["_class_name"],
    )


def _family(index: dict[str, Any], folder: Path) -> Family:
    kind, forced = index.get("_class_name"), bool(index.get("expand_timesteps"))
    if index.get("boundary_ratio") is not None or (index.get("transformer_2") or [None])[0] is not None:
        raise ModelError(f"{folder} is a model of two experts (Wan2.2-A14B), which cannot be run yet")
    if kind == "WanPipeline" or (kind == "WanImageToVideoPipeline" and forced):
        return WAN_TI2V if forced else WAN_T2V
    if kind in _SKYREELS_FORCED:
        return SKYREELS_DF
    if kind == "SkyReelsV2Pipeline":
        return SKYREELS_T2V
    raise ModelError(
        f"{folder} is a {kind}; what can be run are text-to-video pipelines of the Wan family: "
        "Wan2.1-T2V, Wan2.2-TI2V-5B, SkyReels-V2"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model folder is not complete; fetch it again") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(table, dict):
        raise ModelError(f"{path} must hold a JSON object")
    return table
