"""Tiny random transformers of diffusers, and what to call them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel, SkyReelsV2Transformer3DModel, WanTransformer3DModel
from torch import Tensor, nn

FRAMES, ROWS, COLUMNS = 5, 2, 3  # tokens
WAN = {
    "num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 4, "out_channels": 4, "text_dim": 16,
    "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
}  # fmt: skip
LTX = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16,
    "cross_attention_dim": 32, "num_layers": 2, "caption_channels": 16,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A transformer and a call of it with a batch of two."""

    transformer: Any
    arguments: dict[str, Any]

    def __call__(self, **changed: Any) -> Tensor:
        arguments = self.arguments | changed
        out: Tensor = self.transformer(**arguments, return_dict=False)[0]
        return out


def tiny(name: str, frames: int = FRAMES) -> Tiny:
    """One of "wan", "skyreels" and "ltx"."""
    torch.manual_seed(0)
    text, time = torch.randn(2, 7, 16), torch.tensor([700, 300])
    arguments: dict[str, Any] = {"encoder_hidden_states": text, "timestep": time}
    if name == "ltx":
        transformer: nn.Module = LTXVideoTransformer3DModel(**LTX)
        arguments["hidden_states"] = torch.randn(2, frames * ROWS * COLUMNS, 4)
        arguments["encoder_attention_mask"] = torch.ones(2, 7)
        arguments |= {"num_frames": frames, "height": ROWS, "width": COLUMNS}
    else:
        transformer = (WanTransformer3DModel if name == "wan" else SkyReelsV2Transformer3DModel)(**WAN)
        arguments["hidden_states"] = torch.randn(2, 4, frames, 2 * ROWS, 2 * COLUMNS)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Tiny(transformer=transformer.eval(), arguments=arguments)


@pytest.fixture(params=["wan", "skyreels", "ltx"])
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)
