"""What a run starts from: a trained model instead of random weights."""

from __future__ import annotations

import torch

from mocgen.bundle import NativeModel, load_native
from mocgen.codec.embedded import CodecConfig
from mocgen.errors import ModelError, TrainingError
from mocgen.model.config import DiTConfig

from .config import TrainConfig


def load_start(config: TrainConfig) -> NativeModel | None:
    """The model that `config.init` names, in fp32; None if the run starts from nothing.

    Its sizes, codec and vocabulary are kept. Raises TrainingError if there is no such model, or if the
    configuration asks for other sizes.
    """
    if not config.init:
        return None
    try:
        start = load_native(config.init, device=torch.device("cpu"), dtype=torch.float32)
    except ModelError as error:
        raise TrainingError(f"init: {error}") from None
    for name, asked, default in (
        ("model", config.model, DiTConfig()),
        ("codec", config.codec, CodecConfig()),
    ):
        if asked != default:
            raise TrainingError(
                f"init = {config.init!r} brings its own sizes: remove [{name}] from the configuration"
            )
    group = start.dit.config.patch_frames
    if config.data.frames % group:
        raise TrainingError(f"data.frames must be a multiple of {group} for the model {config.init!r}")
    return start
