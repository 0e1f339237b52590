"""What a run starts from: a trained model instead of random weights, with new parts if they are asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from mocgen.bundle import NativeModel, load_native
from mocgen.codec.embedded import CodecConfig
from mocgen.errors import ModelError, TrainingError
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT

from .config import TrainConfig

# sizes of a DiT that an older one can be given
ADDED = (
    "stem_width",
    "stem_blocks",
    "readout",
    "sketch_frames",
    "sketch_width",
    "sketch_blocks",
    "paint_width",
    "paint_blocks",
    "paint_scale",
    "rotated_routing",
)


def load_start(config: TrainConfig) -> NativeModel | None:
    """The model that `config.init` names, in fp32; None if the run starts from nothing.

    Its sizes, codec and vocabulary are kept; of [model] only the parts in ADDED may be asked for, which
    begin without any effect. Raises TrainingError if there is no such model, or if the configuration asks
    for other sizes.
    """
    if not config.init:
        return None
    try:
        start = load_native(config.init, device=torch.device("cpu"), dtype=torch.float32)
    except ModelError as error:
        raise TrainingError(f"init: {error}") from None
    default = DiTConfig()
    asked = {name: getattr(config.model, name) for name in ADDED}
    added = {name: value for name, value in asked.items() if value != getattr(default, name)}
    for name, asked_sizes, default_sizes in (
        ("model", dataclasses.replace(config.model, **{n: getattr(default, n) for n in added}), default),
        ("codec", config.codec, CodecConfig()),
    ):
        if asked_sizes != default_sizes:
            raise TrainingError(
                f"init = {config.init!r} brings its own sizes: remove [{name}] from the configuration "
                f"(of [model] only {', '.join(ADDED)} may be added)"
            )
    group = start.dit.config.patch_frames
    if config.data.frames % group:
        raise TrainingError(f"data.frames must be a multiple of {group} for the model {config.init!r}")
    return dataclasses.replace(start, dit=_grown(start.dit, added)) if added else start


def _grown(model: MoCDiT, added: dict[str, Any]) -> MoCDiT:
    """The model with more parts; what they add begins at zero, so that it computes what it did."""
    grown = MoCDiT(dataclasses.replace(model.config, **added)).eval()
    weights = grown.state_dict()
    for name, value in model.state_dict().items():
        new = torch.zeros_like(weights[name])
        new[tuple(slice(size) for size in value.shape)] = value
        weights[name] = new
    grown.load_state_dict(weights)
    return grown
