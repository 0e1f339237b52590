"""Reading and writing a model folder: config.json and model.safetensors, strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint import name_first
from .errors import WeightsError
from .repository import CONFIG_NAME, TENSORS_NAME


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The parsed config.json and all tensors of a model folder.

    Raises:
        WeightsError: a file is missing, not JSON, truncated, or not safetensors.
    """
    if not folder.is_dir():
        raise WeightsError(f"no such model folder: {folder}")
    for name in (CONFIG_NAME, TENSORS_NAME):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder} holds no {name}; a model folder needs {CONFIG_NAME} and {TENSORS_NAME}"
            )
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{folder / CONFIG_NAME} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{folder / CONFIG_NAME} must hold a JSON object")
    try:
        with safe_open(folder / TENSORS_NAME, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{folder / TENSORS_NAME} is truncated or not safetensors ({error}); fetch or train it again"
        ) from None
    return config, tensors


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model folder; each file appears only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (TENSORS_NAME + ".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
    os.replace(partial, folder / TENSORS_NAME)
    partial = folder / (CONFIG_NAME + ".part")
    partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / CONFIG_NAME)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a module, strictly: same names, same shapes, finite values.

    Raises:
        WeightsError: missing, unknown, wrongly shaped or not finite tensors, naming the first few.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unknown = [name for name in tensors if name not in own]
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, should be {tuple(value.shape)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    broken = [
        name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    for what, names in (
        ("lacks", missing),
        ("holds unknown", unknown),
        ("has wrongly shaped", wrong),
        ("has not finite", broken),
    ):
        if names:
            raise WeightsError(f"{source} {what} tensors: {name_first(names)}")
    module.load_state_dict(dict(tensors))
