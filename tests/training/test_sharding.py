"""A model that is split goes on from a saved state as if it had never stopped; one process shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mocgen.training.optim import OptimConfig, Optimizers
from mocgen.training.sharding import shard, split_like, whole
from mocgen.training.state import averaged, load_state, save_state


@pytest.fixture
def _alone() -> Iterator[None]:
    """A process group of this process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    yield
    torch.distributed.destroy_process_group()


class Net(nn.Module):
    """Two blocks, and weights beside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.out = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return (x * self.out).sum(-1)


def made(*, split: bool) -> tuple[Net, Optimizers]:
    net = Net()
    if split:
        shard(net, net.blocks)
    return net, Optimizers(net, ["blocks.0.weight", "blocks.1.weight"], OptimConfig(warmup=0))


def learn(net: Net, optimizers: Optimizers, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        net(x).square().mean().backward()
        optimizers.step(step, 10)


@pytest.mark.usefixtures("_alone")
def test_a_split_model_learns_as_a_whole_one_and_resumes(tmp_path: Path) -> None:
    plain, split, resumed = made(split=False), made(split=True), made(split=True)
    learn(*plain, 0, 6)
    learn(*split, 0, 3)
    save_state(tmp_path / "state", *split, 3)
    learn(*split, 3, 6)
    assert load_state(tmp_path / "state", *resumed) == 3
    learn(*resumed, 3, 6)
    wanted = averaged(*plain)
    for net, optimizers in (split, resumed):
        for name, value in averaged(net, optimizers).items():
            torch.testing.assert_close(value, wanted[name])
        for name, value in net.state_dict().items():
            torch.testing.assert_close(whole(value), plain[0].state_dict()[name])


@pytest.mark.usefixtures("_alone")
def test_whole_tensors_are_split_and_put_together_again() -> None:
    net, _ = made(split=True)
    value = torch.arange(6.0)
    part = split_like(value, net.out)
    assert type(part) is type(net.out.data)
    assert whole(part).equal(value)
    assert split_like(torch.tensor(3.0), net.out).equal(torch.tensor(3.0))  # a step count
