"""Several processes, started by torchrun, that share one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from torch import nn

from mocgen.errors import TrainingError
from mocgen.plan import pick_device
from mocgen.settings import DeviceName

Parallel = Literal["data", "fsdp"]
CPU = torch.device("cpu")
PATIENCE = timedelta(hours=12)  # others wait while the first process trains the codec and renders


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's number among `count`; number 0 writes the files of the run."""

    number: int = 0
    count: int = 1
    sharded: bool = False  # each holds a part of the model, not all of it
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.number == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        """Replace gradients by their mean over all processes; returns the mean loss."""
        parameters = list(parameters)
        if not self.sharded:
            for p in parameters:  # what one process had no use for another may have, and optimizers go on
                if p.requires_grad and p.grad is None:
                    p.grad = torch.zeros_like(p)
        if self.count == 1:
            return loss
        if self.sharded:  # the gradients are averaged already
            mean = torch.tensor(loss, device=self.device)
            torch.distributed.all_reduce(mean)
            return float(mean) / self.count
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([loss])])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
        return float(flat[-1])


@contextmanager
def join_ranks(parallel: Parallel = "data", device: DeviceName = "auto") -> Iterator[Ranks]:
    """The processes that torchrun started with this one; a process of its own if it did not.

    One process works on `device`. Several of "data" work on the CPU; with "fsdp" they share the model on
    as many GPUs, or on the CPU where there are none. Raises TrainingError if fsdp has one process only,
    or fewer GPUs than processes, and UsageError if there is no such device.
    """
    count, sharded = int(os.environ.get("WORLD_SIZE", "1")), parallel == "fsdp"
    if count == 1:
        if sharded:
            raise TrainingError(
                'parallel = "fsdp" needs several processes: start them with '
                "torchrun --nproc-per-node 2 -m mocgen train …"
            )
        yield Ranks(device=pick_device(device))
        return
    own = _device() if sharded else CPU
    torch.distributed.init_process_group("gloo" if own == CPU else "nccl", timeout=PATIENCE)
    try:
        yield Ranks(number=torch.distributed.get_rank(), count=count, sharded=sharded, device=own)
    finally:
        torch.distributed.destroy_process_group()


def _device() -> torch.device:
    """This process's GPU; the CPU if there is no GPU at all."""
    gpus, number = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if not gpus:
        return CPU
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus:
        raise TrainingError(f'parallel = "fsdp" needs a GPU for each process, and there are {gpus}')
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
