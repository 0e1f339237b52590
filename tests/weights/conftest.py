"""Checkpoints over several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

Shard = Callable[[dict[str, Tensor], Path], Path]


@pytest.fixture
def shard() -> Shard:
    """Writes tensors over two files with an index."""

    def write(tensors: dict[str, Tensor], folder: Path) -> Path:
        stem = "diffusion_pytorch_model"
        names = sorted(tensors)
        weight_map: dict[str, str] = {}
        for n, held in enumerate((names[::2], names[1::2]), start=1):
            file = f"{stem}-0000{n}-of-00002.safetensors"
            save_file({name: tensors[name] for name in held}, folder / file)
            weight_map |= dict.fromkeys(held, file)
        index = folder / f"{stem}.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return index

    return write
