"""Wan transformers in the authors' form become those of diffusers, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mocgen_weights import load_module, wan_renaming

Shard = Callable[[dict[str, Tensor], Path], Path]

LAYERS, WIDTH, FFN, TEXT, FREQUENCIES, CHANNELS = 2, 24, 40, 16, 8, 4


@pytest.fixture
def original() -> dict[str, Tensor]:
    """A tiny random state dict in the authors' form."""
    linear = {
        "text_embedding.0": (WIDTH, TEXT),
        "text_embedding.2": (WIDTH, WIDTH),
        "time_embedding.0": (WIDTH, FREQUENCIES),
        "time_embedding.2": (WIDTH, WIDTH),
        "time_projection.1": (6 * WIDTH, WIDTH),
        "head.head": (4 * CHANNELS, WIDTH),
    }
    shapes: dict[str, tuple[int, ...]] = {"head.modulation": (1, 2, WIDTH)}
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        for attention in ("self_attn", "cross_attn"):
            linear |= {f"{block}.{attention}.{name}": (WIDTH, WIDTH) for name in "qkvo"}
            shapes |= {f"{block}.{attention}.norm_{name}.weight": (WIDTH,) for name in "qk"}
        linear |= {f"{block}.ffn.0": (FFN, WIDTH), f"{block}.ffn.2": (WIDTH, FFN)}
        shapes |= {f"{block}.norm3.{kind}": (WIDTH,) for kind in ("weight", "bias")}
        shapes |= {f"{block}.modulation": (1, 6, WIDTH)}
    shapes |= {"patch_embedding.weight": (WIDTH, CHANNELS, 1, 2, 2), "patch_embedding.bias": (WIDTH,)}
    for name, (rows, columns) in linear.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def peer() -> torch.nn.Module:
    """The transformer of diffusers in the same size."""
    diffusers = pytest.importorskip("diffusers")
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=WIDTH // 2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT,
        freq_dim=FREQUENCIES,
        ffn_dim=FFN,
        num_layers=LAYERS,
    )


@pytest.fixture
def expected(original: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the conversion of diffusers makes of it."""
    utilities = pytest.importorskip("diffusers.loaders.single_file_utils")
    return utilities.convert_wan_transformer_to_diffusers(dict(original))


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("form", ["one file", "shards", "diffusers form"])
def test_either_form_loads_as_diffusers_converts_it(
    original: dict[str, Tensor],
    expected: dict[str, Tensor],
    peer: torch.nn.Module,
    tmp_path: Path,
    form: str,
    prefix: str,
    shard: Shard,
) -> None:
    tensors = {prefix + name: value for name, value in original.items()}
    if form == "shards":
        shard(tensors, tmp_path)
    else:
        save_file(expected if form == "diffusers form" else tensors, tmp_path / "anything.safetensors")
    load_module(
        peer, tmp_path, dtype=torch.float32, device=torch.device("cpu"), rename=wan_renaming(tmp_path)
    )
    own = peer.state_dict()
    assert own.keys() == expected.keys()
    assert all(value.equal(expected[name]) for name, value in own.items())


def test_without_diffusers_the_names_still_are_what_is_documented(tmp_path: Path) -> None:
    names = {
        "blocks.3.self_attn.q.weight": "blocks.3.attn1.to_q.weight",
        "blocks.3.cross_attn.o.bias": "blocks.3.attn2.to_out.0.bias",
        "blocks.3.self_attn.norm_k.weight": "blocks.3.attn1.norm_k.weight",
        "blocks.3.norm3.weight": "blocks.3.norm2.weight",
        "blocks.3.norm2.weight": "blocks.3.norm3.weight",
        "blocks.3.ffn.0.weight": "blocks.3.ffn.net.0.proj.weight",
        "blocks.3.modulation": "blocks.3.scale_shift_table",
        "head.head.weight": "proj_out.weight",
        "head.modulation": "scale_shift_table",
        "time_projection.1.bias": "condition_embedder.time_proj.bias",
        "patch_embedding.weight": "patch_embedding.weight",
    }
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "model.safetensors")
    rename = wan_renaming(tmp_path)
    assert {name: rename(name) for name in names} == names
