"""Resumable checkpoints of a training loop: weights, optimizer, average, step."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .optim import Optimizers
from .sharding import split_like, whole


def save_state(
    path: Path, module: nn.Module, optimizers: Optimizers, step: int, *, write: bool = True
) -> None:
    """Write everything needed to go on after `step` steps; the old file stays until the new is whole.

    Of a model that is split over processes all must call it, and one is to write.
    """
    tensors = {f"module.{name}": whole(value) for name, value in module.state_dict().items()}
    tensors |= {name: whole(value) for name, value in optimizers.state().items()}
    if not write:
        return
    partial = path.with_suffix(".part")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial, {"step": str(step)})
    os.replace(partial, path)


def load_state(path: Path, module: nn.Module, optimizers: Optimizers) -> int:
    """Restore what `save_state` wrote; returns the number of steps that were done."""
    tensors: dict[str, Tensor] = {}
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            tensors[name] = file.get_tensor(name)
    own = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    module.load_state_dict(
        own | {k: split_like(own[k], v) for k, v in module.state_dict().items() if k in own}
    )
    optimizers.load_state(tensors)
    return step


def averaged(module: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """The module's state with averaged parameters."""
    state = {name: whole(value.detach()).clone() for name, value in module.state_dict().items()}
    state.update({name: whole(value).clone() for name, value in optimizers.average.items()})
    return state


def step_generator(seed: int, step: int, batch: int = 0) -> torch.Generator:
    """Randomness of one batch of a step, a function of these numbers alone: resuming needs no saved state."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + 500_009 * batch) % (2**63))
