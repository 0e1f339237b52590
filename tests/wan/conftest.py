"""Tiny random Wan checkpoints, written by diffusers itself."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra 'wan' is not installed")
from diffusers import SkyReelsV2Transformer3DModel, WanTransformer3DModel

SIZES = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 16,
    "out_channels": 16, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64, "num_layers": 2,
    "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024,
}  # fmt: skip


def shake(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Gives every parameter a random value, norms and biases included, of a scale that keeps signals up."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        torch.nn.init.normal_(parameter, mean=around, std=fan_in**-0.5, generator=generator)
    return module.eval()


@pytest.fixture(scope="session")
def wan_transformer() -> WanTransformer3DModel:
    return shake(WanTransformer3DModel(**SIZES), 0)


@pytest.fixture(scope="session")
def skyreels_transformer() -> SkyReelsV2Transformer3DModel:
    return shake(SkyReelsV2Transformer3DModel(**SIZES, inject_sample_info=True), 1)
