"""A model split over processes: each holds a part of every weight, its gradient and its optimizer's state.

Fully sharded data parallelism (FSDP; Zhao et al., arXiv 2304.11277) as `torch.distributed.fsdp.fully_shard`
does it: the weights of a block are gathered when it is at work, gradients are averaged and scattered.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def shard(module: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Split a module over all processes, in place; `blocks` are gathered one at a time.

    On GPUs the gathered weights are bf16; gradients are averaged in fp32 everywhere.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    on_gpu = next(module.parameters()).is_cuda
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if on_gpu else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(module, mp_policy=policy)


def whole(value: Tensor) -> Tensor:
    """All of a tensor; of a split one a copy on the CPU. All processes must ask for it together."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def split_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor split as another of its shape is; as it is if that one is not split."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
