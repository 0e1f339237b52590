"""From a checkpoint into a module that was built without memory, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

    Beyond the weights themselves only a few MB of memory are used. Arguments and errors are those of
    `match_weights` and `ModuleWeights.fill`.
    """
    match_weights(module, folder, dtype=dtype, rename=rename, fp32=fp32).fill(module, device)


@dataclass(frozen=True, kw_only=True)
class ModuleWeights:
    """The tensors of a checkpoint that make up a module's state dict, not yet read.

    entries and dtypes are by the module's names; tied names are groups of more than one name, of which the
    first is that of the entry.
    """

    entries: Mapping[str, TensorEntry]
    dtypes: Mapping[str, torch.dtype]
    groups: Sequence[Sequence[str]]

    @property
    def bytes(self) -> int:
        """What all tensors take in memory once they are loaded."""
        sizes = (
            (entry.end - entry.begin) // entry.dtype.itemsize * self.dtypes[name].itemsize
            for name, entry in self.entries.items()
        )
        return sum(sizes)

    def fill(
        self, module: nn.Module, device: torch.device, wanted: Callable[[str], bool] = lambda name: True
    ) -> None:
        """Load the tensors with wanted names into the module, and move its other buffers to the device.

        Raises:
            WeightsError: a file became shorter, or a tensor is not finite.
            ValueError: a buffer that is in no file is on the meta device.
        """
        slots = module.state_dict(keep_vars=True)
        _move_other_buffers(module, slots, device)
        for names in self.groups:
            if not wanted(names[0]):
                continue
            target = torch.empty(self.entries[names[0]].shape, dtype=self.dtypes[names[0]], device=device)
            self.read(names[0], target)
            slot = slots[names[0]]
            value = nn.Parameter(target, slot.requires_grad) if isinstance(slot, nn.Parameter) else target
            for name in names:
                put_tensor(module, name, value)

    def read(self, name: str, target: Tensor) -> None:
        """Read one tensor into a contiguous one of its shape, of any dtype and on any device.

        Raises:
            WeightsError: the file became shorter, or a value is not finite.
        """
        try:
            read_into(self.entries[name], target)
        except WeightsError as error:
            raise WeightsError(f"tensor {name}: {error}") from None


def match_weights(
    module: nn.Module,
    folder: Path,
    *,
    dtype: torch.dtype,
    rename: Rename | None = None,
    fp32: Sequence[str] = (),
) -> ModuleWeights:
    """What a checkpoint holds for a module, checked by names, shapes and kinds before anything is read.

    folder: what `read_checkpoint` takes: a folder, one .safetensors file or an index of shards.
    rename: from the checkpoint's names to the module's.
    dtype: of all floating-point parameters and buffers; those with a part of their dotted name in `fp32`
        become float32.
    Tied parameters stay tied, and one of their names is enough. Buffers that are not in the state dict
    must hold values already.

    Raises:
        WeightsError: what `read_checkpoint` raises; missing, unknown or wrongly shaped tensors, or whole
            numbers in place of others.
    """
    source = str(folder)
    entries = _renamed(read_checkpoint(folder), rename, source)
    slots = module.state_dict(keep_vars=True)
    groups = _tied(slots)
    _check(slots, groups, entries, source)
    ordered = [sorted(names, key=lambda name: name not in entries) for names in groups]
    return ModuleWeights(
        entries={names[0]: entries[names[0]] for names in ordered},
        dtypes={names[0]: _dtype(names[0], slots[names[0]], dtype, fp32) for names in ordered},
        groups=ordered,
    )


def put_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Set the parameter or buffer of a dotted name."""
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, value)


def _renamed(
    entries: Mapping[str, TensorEntry], rename: Rename | None, source: str
) -> Mapping[str, TensorEntry]:
    if rename is None:
        return entries
    found: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        if rename(name) in found:
            raise WeightsError(f"{source} holds two tensors for {rename(name)}, one of them {name}")
        found[rename(name)] = entry
    return found


def _tied(slots: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of the state dict, those of one and the same tensor together."""
    groups: dict[int, list[str]] = {}
    for name, slot in slots.items():
        groups.setdefault(id(slot), []).append(name)
    return list(groups.values())


def _dtype(name: str, slot: Tensor, dtype: torch.dtype, fp32: Sequence[str]) -> torch.dtype:
    if not slot.is_floating_point():
        return slot.dtype
    return dtype if set(fp32).isdisjoint(name.split(".")) else torch.float32


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
        put_tensor(module, name, buffer.to(device))
