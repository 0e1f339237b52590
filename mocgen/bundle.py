"""A native model and everything it needs to run: DiT, codec, vocabulary, defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import mocgen_weights
from mocgen.codec.embedded import CodecConfig, EmbeddedCodec
from mocgen.errors import ModelError
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.text.vocabulary import Vocabulary

ARCHITECTURE = "mocgen-native"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model does where the user does not say."""

    frames: int = 8  # per shot
    fps: float = 8.0
    steps: int = 20
    guidance: float = 2.5
    top_k: int = 3
    longest_shot: int = 16  # frames


@dataclass(frozen=True, kw_only=True)
class NativeModel:
    """A loaded model. `revision` says exactly which weights these are."""

    dit: MoCDiT
    codec: EmbeddedCodec
    vocabulary: Vocabulary
    defaults: Defaults
    revision: str = ""


def save_bundle(model: NativeModel, folder: Path, *, training: str) -> None:
    """Write a model folder with fp16 weights; `training` is the TOML of the run that made it."""
    tensors = {f"dit.{name}": value.half() for name, value in model.dit.state_dict().items()}
    for name, value in model.codec.state_dict().items():
        tensors[f"codec.{name}"] = value.half() if value.is_floating_point() else value
    config = {
        "architecture": ARCHITECTURE,
        "dit": dataclasses.asdict(model.dit.config),
        "codec": dataclasses.asdict(model.codec.config),
        "defaults": dataclasses.asdict(model.defaults),
        "words": model.vocabulary.words,
        "stop_words": sorted(model.vocabulary.stop_words),
        "training": training,
    }
    mocgen_weights.write_folder(folder, config, tensors)


def load_bundle(model: str, *, device: torch.device, dtype: torch.dtype) -> NativeModel:
    """Load "embedded", a folder, or a Hub repository.

    Raises:
        ModelError: unknown model, files missing or broken, tensors that do not fit.
    """
    try:
        resolved = mocgen_weights.resolve(model)
        config, tensors = mocgen_weights.read_folder(resolved.folder)
        dit, codec, vocabulary, defaults = _build(config, resolved.folder)
        source = str(resolved.folder / "model.safetensors")
        for prefix, module in (("dit.", dit), ("codec.", codec)):
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            mocgen_weights.load_tensors(module, own, source=source)
    except mocgen_weights.WeightsError as error:
        raise ModelError(str(error)) from None
    return NativeModel(
        dit=dit.to(device, dtype).eval(),
        codec=codec.to(device, dtype).eval(),
        vocabulary=vocabulary,
        defaults=defaults,
        revision=resolved.revision,
    )


def _build(config: dict[str, Any], folder: Path) -> tuple[MoCDiT, EmbeddedCodec, Vocabulary, Defaults]:
    """Empty modules of the sizes that a config.json gives."""
    if config.get("architecture") != ARCHITECTURE:
        raise ModelError(
            f"{folder} is not a mocgen model: its config.json names the architecture "
            f"{config.get('architecture')!r}, and {ARCHITECTURE!r} is what can be run"
        )
    try:
        dit_sizes = dict(config["dit"], rope_axes=tuple(config["dit"]["rope_axes"]))
        return (
            MoCDiT(DiTConfig(**dit_sizes)),
            EmbeddedCodec(CodecConfig(**config["codec"])),
            Vocabulary(words=tuple(config["words"]), stop_words=frozenset(config["stop_words"])),
            Defaults(**config["defaults"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a mocgen model: {error}") from None
