"""How the weights of a transformer are held: where, with which LoRA files, in which numbers.

A transformer here is a module with a stack of blocks, which hold nearly all of its weights. Where it can be,
it is loaded block by block, so that what is done to weights needs memory for one block only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mocgen.settings import OffloadName, QuantizeName, Settings, parse_lora
from mocgen_weights import Lora, ModuleWeights, put_tensor, read_lora

from .offload import FileSource, HostSource, fits, offload_blocks
from .quantize import check_quantize, quantize_linears

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How weights are held.

    offload: none: all on the device; blocks: two blocks at a time; auto: blocks if they do not fit.
    loras: LoRA files and their scales, merged in this order.
    quantize: of the blocks' linear layers; they are then never offloaded.
    """

    offload: OffloadName = "auto"
    loras: tuple[tuple[Path, float], ...] = ()
    quantize: QuantizeName | None = None

    @staticmethod
    def of(settings: Settings) -> Storage:
        """What the settings ask for.

        Raises:
            ModelError: what quantisation needs is not installed.
        """
        check_quantize(settings.quantize)
        return Storage(
            offload=settings.offload,
            loras=tuple(parse_lora(text) for text in settings.lora),
            quantize=settings.quantize,
        )


def load_transformer(
    module: nn.Module,
    weights: ModuleWeights,
    storage: Storage,
    device: torch.device,
    *,
    blocks: str = "blocks",
) -> None:
    """Give a transformer that was built on the meta device its weights, held as `storage` says.

    blocks: the name of its `nn.ModuleList`.

    Raises:
        WeightsError: a LoRA file does not fit, or a tensor cannot be read.
        ModelError: what quantisation needs is not installed.
    """
    stack = _stack(module, blocks)
    offloaded = _is_offloaded(storage, weights.bytes, device)
    if offloaded and device.type == "cuda" and fits(2 * weights.bytes, CPU):
        weights.fill(module, CPU)
        hold_transformer(module, storage, device, blocks=blocks)
        return
    loras = [read_lora(file, module, scale) for file, scale in storage.loras]
    prefix = f"{blocks}."
    _fill(module, weights, loras, device, lambda name: not name.startswith(prefix))
    if offloaded:
        offload_blocks(stack, FileSource(weights, prefix, loras), device)
        return
    for index, block in enumerate(stack):
        _fill(module, weights, loras, device, _starts_with(f"{prefix}{index}."))
        if storage.quantize:
            quantize_linears(block, storage.quantize)


def hold_transformer(
    module: nn.Module, storage: Storage, device: torch.device, *, blocks: str = "blocks"
) -> None:
    """The same for a transformer that has its weights already, in host memory."""
    for file, scale in storage.loras:
        read_lora(file, module, scale).merge_into(module)
    stack = _stack(module, blocks)
    size = sum(parameter.nbytes for parameter in module.parameters())
    if not _is_offloaded(storage, size, device):
        module.to(device)
        if storage.quantize:
            quantize_linears(stack, storage.quantize)
        return
    streamed = {f"{blocks}.{name}" for name in stack.state_dict()}
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name not in streamed:
            there = value.to(device)
            is_parameter = isinstance(value, nn.Parameter)
            put_tensor(module, name, nn.Parameter(there, requires_grad=False) if is_parameter else there)
    offload_blocks(stack, HostSource.of(stack, device), device)


def _is_offloaded(storage: Storage, size: int, device: torch.device) -> bool:
    if storage.quantize:
        return False
    return storage.offload == "blocks" or (storage.offload == "auto" and not fits(size, device))


def _stack(module: nn.Module, name: str) -> nn.ModuleList:
    stack = module.get_submodule(name)
    if not isinstance(stack, nn.ModuleList):
        raise TypeError(f"{name} is no nn.ModuleList")
    return stack


def _starts_with(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


def _fill(
    module: nn.Module,
    weights: ModuleWeights,
    loras: Sequence[Lora],
    device: torch.device,
    wanted: Callable[[str], bool],
) -> None:
    """Load the tensors with wanted names, and add to them what the LoRA files hold for them."""
    weights.fill(module, device, wanted)
    for lora in loras:
        lora.merge_into(module, wanted)
