"""Model folders: the native form that `mocgen train` writes, and pipelines in the form of diffusers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mocgen_weights
from mocgen.codec.embedded import CodecConfig, EmbeddedCodec
from mocgen.errors import ModelError
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.model.storage import Storage, hold_transformer
from mocgen.native import NativeModel
from mocgen.sizes import read_sizes, read_words
from mocgen.text.vocabulary import Vocabulary
from mocgen.video_model import Defaults, VideoModel
from mocgen.wan import is_pipeline, load_pipeline

ARCHITECTURE = "mocgen-native"


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


def load_bundle(
    model: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    storage: Storage | None = None,
    offline: bool = False,
    on_fetching: mocgen_weights.OnFetching = mocgen_weights.ignore,
) -> VideoModel:
    """Load "embedded", a folder, or a Hub repository: a native model or a diffusers pipeline.

    storage: how the transformer's weights are held. offline: the Hub is not asked.

    Raises:
        ModelError: unknown model, files missing or broken, tensors or LoRA files that do not fit.
    """
    resolved = _resolve(model, offline, on_fetching)
    storage = storage or Storage()
    if is_pipeline(resolved.folder):
        return load_pipeline(resolved, device=device, dtype=dtype, storage=storage)
    return _load_native(resolved, device, dtype, storage)


def load_native(model: str, *, device: torch.device, dtype: torch.dtype) -> NativeModel:
    """Like `load_bundle`, where only a native model will do."""
    return _load_native(_resolve(model, False, mocgen_weights.ignore), device, dtype, Storage())


def _resolve(model: str, offline: bool, on_fetching: mocgen_weights.OnFetching) -> mocgen_weights.Resolved:
    try:
        return mocgen_weights.resolve(model, mocgen_weights.Hub(offline=offline), on_fetching)
    except mocgen_weights.WeightsError as error:
        raise ModelError(str(error)) from None


def _load_native(
    resolved: mocgen_weights.Resolved, device: torch.device, dtype: torch.dtype, storage: Storage
) -> NativeModel:
    if is_pipeline(resolved.folder):
        raise ModelError(
            f"{resolved.folder} is a diffusers pipeline: generate, extend and inspect-routing run it; "
            "this needs a model of mocgen's own kind, such as 'embedded'"
        )
    try:
        config, tensors = mocgen_weights.read_folder(resolved.folder)
        dit, codec, vocabulary, defaults = _build(config, resolved.folder)
        parts = nn.ModuleDict({"dit": dit, "codec": codec})
        mocgen_weights.load_tensors(parts, tensors, source=str(resolved.folder / "model.safetensors"))
        hold_transformer(dit.to(dtype).eval(), storage, device)
    except mocgen_weights.WeightsError as error:
        raise ModelError(str(error)) from None
    return NativeModel(
        dit=dit,
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
        dit = read_sizes(DiTConfig, config["dit"], "dit")
        codec = read_sizes(CodecConfig, config["codec"], "codec")
        defaults = read_sizes(Defaults, config["defaults"], "defaults")
        words, stop_words = (read_words(config[name], name) for name in ("words", "stop_words"))
        vocabulary = Vocabulary(words=words, stop_words=frozenset(stop_words))
        _check_fit(dit, codec, defaults, len(vocabulary))
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'} has no entry {error}") from None
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a mocgen model: {error}") from None
    return MoCDiT(dit), EmbeddedCodec(codec), vocabulary, defaults


def _check_fit(dit: DiTConfig, codec: CodecConfig, defaults: Defaults, words: int) -> None:
    """Raise ValueError if parts of these sizes do not work together."""
    demands = {
        "dit.width must be a multiple of dit.heads": dit.width % dit.heads == 0,
        "dit.rope_axes must be even": all(dims % 2 == 0 for dims in dit.rope_axes),
        "dit.latent_size must be a multiple of dit.patch": dit.latent_size % dit.patch == 0,
        "dit.latent_size must be codec.size / 8": dit.latent_size * 8 == codec.size,
        "dit.latent_channels must be codec.channels": dit.latent_channels == codec.channels,
        "dit.vocabulary is too small for the words": words <= dit.vocabulary,
        "dit.caption_limit must be a multiple of dit.caption_multiple": (
            dit.caption_limit % dit.caption_multiple == 0
        ),
        "defaults.frames must be a multiple of dit.patch_frames": defaults.frames % dit.patch_frames == 0,
    }
    for demand, met in demands.items():
        if not met:
            raise ValueError(demand)
