"""Where kernels run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from triton.runtime import JITFunction

from mocgen_kernels._triton.rows import load_rows


def interpreted() -> bool:
    """Whether TRITON_INTERPRET was set when the kernels were loaded: they then run on any device, slowly."""
    return not isinstance(load_rows, JITFunction)


def device_of(x: Tensor) -> AbstractContextManager[object]:
    """Within it kernels are launched on the tensor's device, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
