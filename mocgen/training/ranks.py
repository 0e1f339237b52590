"""Data parallelism: several processes, started by torchrun, that share one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import nn

PATIENCE = timedelta(hours=12)  # others wait while the first process trains the codec and renders


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's number among `count`; number 0 writes the files of the run."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.number == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        """Replace gradients by their mean over all processes; returns the mean loss."""
        if self.count == 1:
            return loss
        learning = [p for p in parameters if p.requires_grad]
        for p in learning:  # what one process had no use for another may have
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        gradients = [p.grad for p in learning if p.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([loss])])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
        return float(flat[-1])


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The processes that torchrun started with this one; a process of its own if it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(number=torch.distributed.get_rank(), count=count)
    finally:
        torch.distributed.destroy_process_group()
