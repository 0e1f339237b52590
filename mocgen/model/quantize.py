"""Weights in eight bits: a linear layer's matrix as int8 or fp8 with a scale per row, by torchao.

Only storage is in eight bits; products are computed in the dtype of what comes in.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mocgen.errors import ModelError
from mocgen.settings import QuantizeName


def check_quantize(name: QuantizeName | None) -> None:
    """
    Raises:
        ModelError: what this kind of quantisation needs is not installed.
    """
    if name is not None and importlib.util.find_spec("torchao") is None:
        raise ModelError(
            f"quantize {name} needs torchao, which is not installed: pip install 'mocgen[quant]'"
        )


def quantize_linears(module: nn.Module, name: QuantizeName) -> None:
    """Replace the weights of all linear layers in a module by eight-bit ones; biases stay as they are.

    Raises:
        ModelError: torchao is not installed.
    """
    check_quantize(name)
    with _without_warnings("torchao", "torch.utils._pytree"):
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    kind = Int8WeightOnlyConfig if name == "int8" else Float8WeightOnlyConfig
    quantize_(module, kind(set_inductor_config=False))


@contextmanager
def _without_warnings(*loggers: str) -> Iterator[None]:
    """Importing torchao warns of kernels for other devices, which are not used here."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
