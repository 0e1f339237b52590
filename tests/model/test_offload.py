"""Blocks whose weights are streamed give the very outputs of blocks that stay, in any order."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mocgen.model.offload import fits, free_memory
from mocgen.model.storage import Storage, hold_transformer, load_transformer
from mocgen_weights import WeightsError, match_weights

CPU = torch.device("cpu")
OFFLOADED = Storage(offload="blocks")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, width), nn.Linear(width, 8)
        self.register_buffer("gain", torch.ones(8))
        self.register_buffer("table", torch.arange(8.0, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (
            x
            + self.gain * self.down(self.up(self.norm(x.float()).to(x.dtype)).relu())
            + self.table.to(x.dtype)
        )


class Stack(nn.Module):
    """Blocks of different sizes between two other layers."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.blocks = nn.ModuleList(Block(16 + 8 * (n % 3)) for n in range(depth))

    def forward(self, x: Tensor, order: list[int] | None = None) -> Tensor:
        x = self.first(x) * self.scale
        for n in order or range(len(self.blocks)):
            x = self.blocks[n](x)
        return x


def stack(depth: int) -> Stack:
    """A stack with random weights everywhere."""
    generator = torch.Generator().manual_seed(depth)
    found = Stack(depth)
    for value in found.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator))
    return found


def storages(module: nn.Module) -> int:
    """Number of separate pieces of memory that a module's parameters lie in."""
    return len({parameter.untyped_storage().data_ptr() for parameter in module.parameters()})


def streamed(way: str, plain: Stack, folder: Path, device: torch.device = CPU) -> Stack:
    """A copy of a stack whose blocks come from host memory or from a file."""
    if way == "host":
        found = copy.deepcopy(plain)
        hold_transformer(found, OFFLOADED, device)
        return found
    save_file(plain.state_dict(), folder / "model.safetensors")
    with torch.device("meta"):
        found = Stack(len(plain.blocks))
    load_transformer(found, match_weights(found, folder, dtype=torch.float32), OFFLOADED, device)
    return found


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("way", ["host", "file"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_outputs_are_identical(tmp_path: Path, depth: int, way: str, inference: bool) -> None:
    plain = stack(depth)
    found = streamed(way, plain, tmp_path)
    assert storages(found.blocks) == min(2, depth)
    x = torch.randn(3, 4)
    with torch.inference_mode() if inference else torch.no_grad():
        for order in ([*range(depth)], [*range(depth)], [*reversed(range(depth))], [0, 0, depth - 1]):
            assert found(x, order).equal(plain(x, order))


def test_numbers_that_stay_in_fp32_stay_so(tmp_path: Path) -> None:
    save_file(stack(3).state_dict(), tmp_path / "model.safetensors")
    outputs = []
    for storage in (OFFLOADED, Storage(offload="none"), Storage()):
        with torch.device("meta"):
            found = Stack(3)
        weights = match_weights(found, tmp_path, dtype=torch.bfloat16, fp32=("norm",))
        load_transformer(found, weights, storage, CPU)
        assert found.blocks[2].norm.weight.dtype == torch.float32
        assert found.blocks[2].up.weight.dtype == found.first.weight.dtype == torch.bfloat16
        assert storages(found.blocks) == 2 if storage is OFFLOADED else storages(found.blocks) > 2
        with torch.no_grad():
            outputs.append(found(torch.ones(2, 4, dtype=torch.bfloat16)))
    assert outputs[0].equal(outputs[1])
    assert outputs[0].equal(outputs[2])


def test_blocks_loaded_in_inference_mode_run_in_any_mode(tmp_path: Path) -> None:
    plain = stack(3)
    with torch.inference_mode():
        found = streamed("file", plain, tmp_path)
        found(torch.ones(1, 4))
    with torch.no_grad():
        assert found(torch.ones(1, 4)).equal(plain(torch.ones(1, 4)))


def test_a_copy_that_fails_is_made_again(tmp_path: Path) -> None:
    plain = stack(3)
    found = streamed("file", plain, tmp_path)
    x = torch.randn(3, 4)
    (tmp_path / "model.safetensors").rename(tmp_path / "gone")
    with pytest.raises(WeightsError, match=r"tensor blocks\.0\..* cannot be read"):
        found(x)
    (tmp_path / "gone").rename(tmp_path / "model.safetensors")
    assert found(x).equal(plain(x))


def test_auto_streams_only_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(parameter.nbytes for parameter in stack(4).parameters())
    for free, pieces in ((2 * size, 4 * 6), (size, 2)):
        monkeypatch.setattr("mocgen.model.offload.free_memory", lambda device, free=free: free)
        found = stack(4)
        hold_transformer(found, Storage(), CPU)
        assert storages(found.blocks) == pieces


def test_free_memory_of_this_machine() -> None:
    free = free_memory(CPU)
    assert free is None or 2**20 < free < 2**50
    assert fits(1, CPU)
    assert not fits(2**60, CPU) or free is None


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["host", "file"])
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_outputs_are_identical_on_a_gpu(tmp_path: Path, depth: int, way: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cuda = torch.device("cuda")
    plain = stack(depth)
    found = streamed(way, plain, tmp_path, cuda)
    plain.to(cuda)
    x = torch.randn(30_000, 4, device=cuda)
    with torch.inference_mode():
        for _ in range(20):
            assert found(x).equal(plain(x))
