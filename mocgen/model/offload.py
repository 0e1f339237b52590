"""Running a stack of blocks whose weights do not lie on the device: two are there at a time.

The blocks' parameters are views of two buffers, block i of buffer i mod 2. Before a block runs, its weights
are copied into its buffer; while it runs, those of the next block are copied into the other one, on CUDA by
a stream of their own from page-locked memory. A buffer is overwritten only when the block that used it last
is done. Outputs are those of the blocks as they were. Inference only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mocgen_weights import Lora, ModuleWeights, put_tensor

_ALIGNMENT = 256  # bytes
_SHARE = 0.8  # of the free memory that weights may take; the rest is for what is computed


class BlockSource(Protocol):
    """Where the weights of all blocks are. Names are those of one block's state dict."""

    def dtypes(self, index: int) -> Mapping[str, torch.dtype]:
        """The dtype in which each tensor of a block is to be on the device."""
        ...

    def copy(self, index: int, targets: Mapping[str, Tensor]) -> None:
        """Copy a block's tensors; on CUDA asynchronously, where the source can."""
        ...


@dataclass(frozen=True)
class HostSource:
    """Blocks in host memory, page-locked if they go to a CUDA device."""

    blocks: list[dict[str, Tensor]]

    @staticmethod
    def of(blocks: nn.ModuleList, device: torch.device) -> HostSource:
        """The weights that the blocks have now, moved to host memory block by block.

        Page-locked memory comes in powers of two, so that a block may take up to twice its size.
        """
        held: list[dict[str, Tensor]] = []
        for block in blocks:
            tensors = {name: value.cpu() for name, value in block.state_dict().items()}
            if device.type == "cuda":
                shapes = {name: (value.shape, value.dtype) for name, value in tensors.items()}
                views = _views(torch.empty(_size(shapes), dtype=torch.uint8, pin_memory=True), shapes)
                for name, view in views.items():
                    view.copy_(tensors[name])
                tensors = views
                _give(block, tensors)  # so that what it had is let go of
            held.append(tensors)
        return HostSource(held)

    def dtypes(self, index: int) -> Mapping[str, torch.dtype]:
        return {name: value.dtype for name, value in self.blocks[index].items()}

    def copy(self, index: int, targets: Mapping[str, Tensor]) -> None:
        for name, target in targets.items():
            target.copy_(self.blocks[index][name], non_blocking=True)


@dataclass(frozen=True)
class FileSource:
    """Blocks in safetensors files, read each time that they run: for when even host memory is short.

    prefix: what stands before the number of a block in the module's names, such as "blocks.".
    loras: what is added to each weight as it is read.
    """

    weights: ModuleWeights
    prefix: str
    loras: Sequence[Lora] = ()

    def dtypes(self, index: int) -> Mapping[str, torch.dtype]:
        start = f"{self.prefix}{index}."
        dtypes = self.weights.dtypes.items()
        return {name.removeprefix(start): dtype for name, dtype in dtypes if name.startswith(start)}

    def copy(self, index: int, targets: Mapping[str, Tensor]) -> None:
        for name, target in targets.items():
            full_name = f"{self.prefix}{index}.{name}"
            self.weights.read(full_name, target)
            for lora in self.loras:
                lora.add_to(full_name, target)


def offload_blocks(blocks: nn.ModuleList, source: BlockSource, device: torch.device) -> None:
    """Let the blocks run on a device from weights that stay in the source, from now on.

    The blocks' own weights are let go of (they may be on the meta device). They are meant to run in order,
    again and again; any other order is right too, but then nothing is copied ahead of time.
    """
    with torch.inference_mode(False):  # buffers that may be written in any mode
        streamer = _Streamer(blocks, source, device)
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda block, inputs, index=index: streamer.begin(index))
        block.register_forward_hook(lambda block, inputs, output, index=index: streamer.end(index))


def fits(size: int, device: torch.device) -> bool:
    """Whether weights of `size` bytes leave room on a device for what is computed with them."""
    free = free_memory(device)
    return free is None or size <= _SHARE * free


def free_memory(device: torch.device) -> int | None:
    """Free memory of a device in bytes; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0][1]) if found else None


@dataclass
class _Slot:
    """One of the two buffers: whose weights it holds, and on CUDA when they are there and when it is free."""

    block: int | None = None
    filled: Any = None
    free: Any = None


@dataclass
class _Streamer:
    blocks: nn.ModuleList
    source: BlockSource
    device: torch.device
    slots: tuple[_Slot, _Slot] = field(default_factory=lambda: (_Slot(), _Slot()))
    stream: Any = None  # for copies, on CUDA
    targets: list[dict[str, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)
            for slot in self.slots:
                slot.filled, slot.free = torch.cuda.Event(), torch.cuda.Event()
                slot.free.record(torch.cuda.current_stream(self.device))
        shapes = [_shapes(block, self.source.dtypes(index)) for index, block in enumerate(self.blocks)]
        size = max(map(_size, shapes))
        buffers = [torch.empty(size, dtype=torch.uint8, device=self.device) for _ in self.slots]
        for index, block in enumerate(self.blocks):
            self.targets.append(_views(buffers[index % 2], shapes[index]))
            _give(block, self.targets[index])

    def begin(self, index: int) -> None:
        """The block is about to run: its weights are there, and the next one's are on their way."""
        self._load(index)
        slot = self.slots[index % 2]
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.filled)
            if self._next(index) % 2 != index % 2:
                self._load(self._next(index))

    def end(self, index: int) -> None:
        """The block has been launched: once it is done, its buffer may be overwritten."""
        if self.stream is not None:
            self.slots[index % 2].free.record(torch.cuda.current_stream(self.device))
            self._load(self._next(index))

    def _next(self, index: int) -> int:
        return (index + 1) % len(self.blocks)

    def _load(self, index: int) -> None:
        slot = self.slots[index % 2]
        if slot.block == index:
            return
        slot.block = None  # should the copy fail
        with contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            if self.stream is not None:
                self.stream.wait_event(slot.free)
            with torch.no_grad():
                self.source.copy(index, self.targets[index])
            if self.stream is not None:
                slot.filled.record(self.stream)
        slot.block = index


Shapes = dict[str, tuple[torch.Size, torch.dtype]]


def _shapes(block: nn.Module, dtypes: Mapping[str, torch.dtype]) -> Shapes:
    return {name: (value.shape, dtypes[name]) for name, value in block.state_dict().items()}


def _size(shapes: Shapes) -> int:
    """Bytes of tensors side by side."""
    return sum(_aligned(shape, dtype) for shape, dtype in shapes.values())


def _aligned(shape: torch.Size, dtype: torch.dtype) -> int:
    """Bytes of a tensor, rounded up so that the next one begins well."""
    return -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT


def _views(buffer: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Tensors side by side in a buffer of bytes."""
    views: dict[str, Tensor] = {}
    start = 0
    for name, (shape, dtype) in shapes.items():
        size = math.prod(shape) * dtype.itemsize
        views[name] = buffer[start : start + size].view(dtype).view(shape)
        start += _aligned(shape, dtype)
    return views


def _give(block: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make tensors the parameters and buffers of a block."""
    parameters = {name for name, _ in block.named_parameters()}
    for name, value in tensors.items():
        put_tensor(block, name, nn.Parameter(value, requires_grad=False) if name in parameters else value)
