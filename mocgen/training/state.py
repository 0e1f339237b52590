"""Resumable checkpoints of a training loop: weights, optimizer, average, step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .optim import Optimizers
from .sharding import split_like, whole

OnStep = Callable[[int, float], None]  # steps done, loss


class Paused(Exception):
    """A run has come to the end of its time; what it did so far is saved."""


class Deadline:
    """When a run is to pause: so many minutes from now, or never."""

    def __init__(self, minutes: float | None = None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def passed(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


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


def learn(
    module: nn.Module,
    optimizers: Optimizers,
    loss_at: Callable[[int], Tensor],
    *,
    steps: int,
    state: Path,
    save_every: int,
    on_step: OnStep,
    deadline: Deadline,
) -> None:
    """Take steps down the loss of each, a function of its number (from 0), and leave averaged weights.

    Goes on from `state` if that file exists, with the same result as an uninterrupted run. Raises Paused
    at the deadline.
    """
    done = load_state(state, module, optimizers) if state.exists() else 0
    for step in range(done, steps):
        loss = loss_at(step)
        loss.backward()
        optimizers.step(step, steps)
        on_step(step + 1, loss.item())
        pause = deadline.passed  # read once: what it says here is what is saved
        if (step + 1) % save_every == 0 or step + 1 == steps or pause:
            save_state(state, module, optimizers, step + 1)
        if pause:
            raise Paused
    module.load_state_dict(averaged(module, optimizers))


def step_generator(seed: int, step: int, batch: int = 0) -> torch.Generator:
    """Randomness of one batch of a step, a function of these numbers alone: resuming needs no saved state."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + 500_009 * batch) % (2**63))
