"""LoRA files: low-rank additions to a module's weights, merged into them once.

An addition is scale · alpha / rank · up @ down (without alpha: scale · up @ down). Files of three habits are
read: PEFT and diffusers (`transformer.blocks.0.attn1.to_q.lora_A.weight`), the authors' names
(`diffusion_model.blocks.0.self_attn.q.lora_down.weight` with `.alpha`), and kohya's flattened ones
(`lora_unet_blocks_0_self_attn_q.lora_down.weight`); also whole differences (`.diff`, `.diff_b`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import name_first, read_checkpoint
from .errors import WeightsError
from .tensor_file import TensorEntry, read_into, read_metadata
from .wan_names import to_diffusers, to_original

_PREFIXES = ("base_model.model.", "transformer.", "model.diffusion_model.", "diffusion_model.")
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_")
_ROLES = {  # how a key ends → what it is
    "lora_A.weight": "down",
    "lora_A.default.weight": "down",
    "lora_down.weight": "down",
    "lora_B.weight": "up",
    "lora_B.default.weight": "up",
    "lora_up.weight": "up",
    "alpha": "alpha",
    "diff": "weight",
    "diff_b": "bias",
}


@dataclass(frozen=True)
class Lora:
    """The additions of one file to a module's parameters, already scaled; by the parameters' names.

    low_rank: (up, down), fp32, whose product is to be added; whole: fp32.
    """

    low_rank: Mapping[str, tuple[Tensor, Tensor]]
    whole: Mapping[str, Tensor]

    @torch.no_grad()
    def add_to(self, name: str, weight: Tensor) -> None:
        """Add to the parameter of that name, in place, if the file has anything for it."""
        if name in self.low_rank:
            up, down = (factor.to(weight.device) for factor in self.low_rank[name])
            weight.copy_(weight.float() + (up @ down).view(weight.shape))
        if name in self.whole:
            weight.copy_(weight.float() + self.whole[name].to(weight.device))

    def merge_into(self, module: nn.Module, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Add to all parameters of the module with wanted names."""
        for name, parameter in module.named_parameters():
            if wanted(name):
                self.add_to(name, parameter)


def merge_lora(module: nn.Module, file: Path, scale: float = 1.0) -> None:
    """Add a LoRA file to a module's weights.

    Raises:
        WeightsError: what `read_lora` raises.
    """
    read_lora(file, module, scale).merge_into(module)


def read_lora(file: Path, module: nn.Module, scale: float = 1.0) -> Lora:
    """The additions of a safetensors file to a module (which may be on the meta device).

    Raises:
        WeightsError: no such file, not safetensors, keys that fit no weight of the module, halves without
            the other half, or wrong shapes.
    """
    entries = read_checkpoint(file)
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    modules = _sort(entries, {name.rpartition(".")[0] for name in shapes}, file)
    alpha = _default_alpha(file)
    low_rank: dict[str, tuple[Tensor, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for path, roles in modules.items():
        if ("up" in roles) != ("down" in roles) or not roles.keys() - {"alpha"}:
            raise WeightsError(f"LoRA {file} holds only one half of {path}: {name_first(roles)}")
        for role in roles.keys() & {"weight", "bias"}:
            whole[f"{path}.{role}"] = scale * roles[role]
        if "up" in roles:
            low_rank[f"{path}.weight"] = _factors(roles, alpha, scale, f"LoRA {file}: {path}")
    _check(file, shapes, low_rank, whole)
    return Lora(low_rank, whole)


def _factors(
    roles: Mapping[str, Tensor], alpha: float | None, scale: float, source: str
) -> tuple[Tensor, Tensor]:
    """The two matrices of a module, the first one scaled."""
    up, down, own = roles["up"], roles["down"], roles.get("alpha")
    if min(up.ndim, down.ndim) < 2 or down.shape[0] == 0 or (own is not None and own.numel() != 1):
        shapes = ", ".join(f"{role} {tuple(tensor.shape)}" for role, tensor in roles.items())
        raise WeightsError(f"{source} is of no use: {shapes}")
    rank = down.shape[0]
    strength = float(own) if own is not None else alpha or rank
    return scale * strength / rank * up.flatten(1), down.flatten(1)


def _sort(
    entries: Mapping[str, TensorEntry], paths: Collection[str], file: Path
) -> dict[str, dict[str, Tensor]]:
    """The file's tensors by module and role; raises WeightsError if some fit none, or are there twice."""
    flat = {form(path).replace(".", "_"): path for path in paths for form in (str, to_original)}
    modules: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, entry in entries.items():
        path, role = _read_key(key, paths, flat)
        if path is None or role is None:
            unknown.append(key)
            continue
        if role in modules.setdefault(path, {}):
            raise WeightsError(f"LoRA {file} says twice what to add to {path}, once in {key}")
        modules[path][role] = torch.empty(entry.shape, dtype=torch.float32)
        read_into(entry, modules[path][role])
    if unknown or not modules:
        what = f"holds what fits no weight of this model: {name_first(unknown)}" if unknown else "is empty"
        raise WeightsError(f"LoRA {file} {what}")
    return modules


def _read_key(key: str, known: Collection[str], flat: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Which module a key is about, and what it is of it; None where that is not known."""
    end = next((end for end in _ROLES if key.endswith(f".{end}")), None)
    if end is None:
        return None, None
    path = key.removesuffix(f".{end}")
    for prefix in _FLAT_PREFIXES:
        if path.startswith(prefix):
            return flat.get(path.removeprefix(prefix)), _ROLES[end]
    for prefix in _PREFIXES:
        path = path.removeprefix(prefix)
    found = next((name for name in (path, to_diffusers(path)) if name in known), None)
    return found, _ROLES[end]


def _default_alpha(file: Path) -> float | None:
    """The alpha that diffusers writes into a file's metadata; None: as large as the rank."""
    if not file.is_file():
        return None
    try:
        told = json.loads(read_metadata(file).get("lora_adapter_metadata", "{}"))
        alpha = next((float(value) for key, value in told.items() if key.endswith("lora_alpha")), None)
        special = [
            key for key, value in told.items() if key.endswith(("alpha_pattern", "use_rslora")) and value
        ]
    except (ValueError, TypeError, AttributeError):
        raise WeightsError(f"LoRA {file} has metadata that cannot be read") from None
    if special:
        raise WeightsError(
            f"LoRA {file} uses {name_first(special)}, which is not supported; merge it elsewhere"
        )
    return alpha


def _check(
    file: Path,
    shapes: Mapping[str, torch.Size],
    low_rank: Mapping[str, tuple[Tensor, Tensor]],
    whole: Mapping[str, Tensor],
) -> None:
    """Raise WeightsError if an addition does not have the shape of the weight that it is for."""
    wrong = [
        f"{name} is {tuple(up.shape)} by {tuple(down.shape)}"
        for name, (up, down) in low_rank.items()
        if name not in shapes
        or up.shape[1] != down.shape[0]
        or (up.shape[0], down.shape[1]) != (shapes[name][0], shapes[name][1:].numel())
    ]
    wrong += [
        f"{name} is {tuple(value.shape)}" for name, value in whole.items() if value.shape != shapes.get(name)
    ]
    if wrong:
        raise WeightsError(f"LoRA {file} does not fit this model: {name_first(wrong)}")
