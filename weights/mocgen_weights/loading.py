"""From a checkpoint into a module that was built without memory, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import name_first, read_checkpoint
from .errors import WeightsError
from .tensor_file import TensorEntry, read_into

Rename = Callable[[str], str]


def load_module(
    module: nn.Module,
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    rename: Rename | None = None,
    fp32: Sequence[str] = (),
) -> None:
    """Give a module that was built under `torch.device("meta")` its weights from a checkpoint, strictly.

    folder: what `read_checkpoint` takes: a folder, one .safetensors file or an index of shards.
    rename: from the checkpoint's names to the module's.
    dtype: of all floating-point parameters and buffers; those with a part of their dotted name in `fp32`
        become float32.

    Beyond the weights themselves only a few MB of memory are used. Tied parameters stay tied, and one of
    their names is enough. Buffers that are not in the state dict must hold values already; they are moved.

    Raises:
        WeightsError: what `read_checkpoint` raises; missing, unknown, wrongly shaped or not finite tensors.
        ValueError: a buffer that no file can fill is on the meta device.
    """
    source = str(folder)
    entries = _renamed(read_checkpoint(folder), rename, source)
    slots = module.state_dict(keep_vars=True)
    groups = _tied(slots)
    _check(slots, groups, entries, source)
    _move_other_buffers(module, slots, device)
    for names in groups:
        name = next(name for name in names if name in entries)
        slot = slots[name]
        wanted = dtype if slot.is_floating_point() else slot.dtype
        if slot.is_floating_point() and not set(fp32).isdisjoint(name.split(".")):
            wanted = torch.float32
        value = _read(entries[name], name, wanted, device)
        if isinstance(slot, nn.Parameter):
            value = nn.Parameter(value, slot.requires_grad)
        for other in names:
            _put(module, other, value)


def _renamed(
    entries: Mapping[str, TensorEntry], rename: Rename | None, source: str
) -> dict[str, TensorEntry]:
    if rename is None:
        return dict(entries)
    names = {name: rename(name) for name in entries}
    found = {names[name]: entry for name, entry in entries.items()}
    if len(found) < len(entries):
        twice = [name for name, new in names.items() if list(names.values()).count(new) > 1]
        raise WeightsError(f"{source} holds tensors that stand for the same weights: {name_first(twice)}")
    return found


def _tied(slots: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of the state dict, those of one and the same tensor together."""
    groups: dict[int, list[str]] = {}
    for name, slot in slots.items():
        groups.setdefault(id(slot), []).append(name)
    return list(groups.values())


def _check(
    slots: Mapping[str, Tensor], groups: list[list[str]], entries: Mapping[str, TensorEntry], source: str
) -> None:
    """Raise WeightsError unless the checkpoint holds just what the module needs."""
    shared = {name: entries[name] for name in slots if name in entries}
    faults = {
        "lacks": [names[0] for names in groups if not any(name in entries for name in names)],
        "holds unknown": [name for name in entries if name not in slots],
        "has wrongly shaped": [
            f"{name} is {entry.shape}, should be {tuple(slots[name].shape)}"
            for name, entry in shared.items()
            if entry.shape != slots[name].shape
        ],
        "has unusable": [
            f"{name} is {entry.dtype}, should be {slots[name].dtype}"
            for name, entry in shared.items()
            if entry.dtype != slots[name].dtype
            and not (entry.dtype.is_floating_point and slots[name].is_floating_point())
        ],
    }
    found = [f"{what} tensors: {name_first(names)}" for what, names in faults.items() if names]
    if found:
        raise WeightsError(f"{source} {'; it '.join(found)}")


def _move_other_buffers(module: nn.Module, slots: Mapping[str, Tensor], device: torch.device) -> None:
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        if name in slots:
            continue
        if buffer.is_meta:
            raise ValueError(f"buffer {name} stands in no file: build it outside of the meta device")
        _put(module, name, buffer.to(device))


def _read(entry: TensorEntry, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    target = torch.empty(entry.shape, dtype=dtype, device=device)
    try:
        read_into(entry, target)
    except WeightsError as error:
        raise WeightsError(f"tensor {name}: {error}") from None
    return target


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Set the parameter or buffer of a dotted name."""
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, value)
