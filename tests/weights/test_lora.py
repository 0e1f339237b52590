"""LoRA files of all habits are added to the weights that they are for, and what fits none is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mocgen_weights import WeightsError, merge_lora

RANK, WIDTH = 3, 8
ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
ORIGINAL = {  # the authors' name of a layer → that of diffusers
    **{f"blocks.{n}.self_attn.{a}": f"blocks.{n}.attn1.{b}" for n in (0, 1) for a, b in ATTENTION.items()},
    **{f"blocks.{n}.cross_attn.{a}": f"blocks.{n}.attn2.{b}" for n in (0, 1) for a, b in ATTENTION.items()},
    **{f"blocks.{n}.ffn.0": f"blocks.{n}.ffn.net.0.proj" for n in (0, 1)},
    **{f"blocks.{n}.ffn.2": f"blocks.{n}.ffn.net.2" for n in (0, 1)},
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
LAYERS = list(ORIGINAL.values())


class Tree(nn.Module):
    """Linear layers under dotted names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            place: nn.Module = self
            *owners, last = name.split(".")
            for owner in owners:
                if not hasattr(place, owner):
                    place.add_module(owner, nn.Module())
                place = getattr(place, owner)
            place.add_module(last, nn.Linear(WIDTH, 2 * WIDTH))


def factors() -> dict[str, tuple[Tensor, Tensor]]:
    """Random (up, down) of every layer."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: (
            torch.randn(2 * WIDTH, RANK, generator=generator),
            torch.randn(RANK, WIDTH, generator=generator),
        )
        for name in LAYERS
    }


def key_styles() -> dict[str, Callable[[str], str]]:
    """By habit: a layer's diffusers name → what stands before the key's end."""
    theirs = {ours: name for name, ours in ORIGINAL.items()}
    return {
        "peft": lambda name: f"base_model.model.{name}",
        "diffusers": lambda name: f"transformer.{name}",
        "bare": lambda name: name,
        "original": lambda name: f"diffusion_model.{theirs[name]}",
        "kohya": lambda name: "lora_unet_" + theirs[name].replace(".", "_"),
        "kohya of diffusers": lambda name: "lora_unet_" + name.replace(".", "_"),
    }


@pytest.mark.parametrize("ends", [("lora_up", "lora_down"), ("lora_B", "lora_A")])
@pytest.mark.parametrize("alpha", [None, 1.5])
@pytest.mark.parametrize("style", key_styles())
def test_merged_weights_are_those_of_the_formula(
    tmp_path: Path, style: str, alpha: float | None, ends: tuple[str, str]
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, (up, down) in factors().items():
        start = key_styles()[style](name)
        tensors |= {f"{start}.{ends[0]}.weight": up, f"{start}.{ends[1]}.weight": down}
        if alpha is not None:
            tensors[f"{start}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "lora.safetensors")
    model = Tree(LAYERS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merge_lora(model, tmp_path / "lora.safetensors", 0.7)
    for name, (up, down) in factors().items():
        strength = 0.7 * (1 if alpha is None else alpha / RANK)
        expected = before[f"{name}.weight"] + strength * up @ down
        torch.testing.assert_close(model.get_submodule(name).weight, expected, rtol=1e-5, atol=1e-6)
        assert model.get_submodule(name).bias.equal(before[f"{name}.bias"])


def test_whole_differences_are_added(tmp_path: Path) -> None:
    save_file(
        {
            "diffusion_model.blocks.0.self_attn.q.diff": torch.ones(2 * WIDTH, WIDTH),
            "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(2 * WIDTH),
        },
        tmp_path / "lora.safetensors",
    )
    model = Tree(LAYERS)
    layer = model.get_submodule("blocks.0.attn1.to_q")
    weight, bias = layer.weight.clone(), layer.bias.clone()
    merge_lora(model, tmp_path / "lora.safetensors", 0.5)
    assert layer.weight.equal(weight + 0.5)
    assert layer.bias.equal(bias + 0.5)


def test_low_precision_weights_are_rounded_once(tmp_path: Path) -> None:
    up, down = factors()["proj_out"]
    save_file({"proj_out.lora_A.weight": down, "proj_out.lora_B.weight": up}, tmp_path / "lora.safetensors")
    model = Tree(["proj_out"]).to(torch.bfloat16)
    expected = (model.get_submodule("proj_out").weight.float() + up @ down).to(torch.bfloat16)
    merge_lora(model, tmp_path / "lora.safetensors")
    assert model.get_submodule("proj_out").weight.equal(expected)


LoraTensors = dict[str, Tensor]
PAIR = {
    "proj_out.lora_A.weight": torch.ones(RANK, WIDTH),
    "proj_out.lora_B.weight": torch.ones(2 * WIDTH, RANK),
}
BAD: dict[str, tuple[LoraTensors, str]] = {
    "another layer": (
        PAIR | {f"blocks.{n}.attn9.lora_A.weight": torch.ones(1) for n in range(5)},
        r"fits no weight of this model: blocks\.0\.attn9\.lora_A\.weight, .* and 2 more",
    ),
    "another kohya layer": ({"lora_te_text.lora_up.weight": torch.ones(1)}, "fits no weight .* lora_te_text"),
    "another kind": (PAIR | {"proj_out.dora_scale": torch.ones(1)}, "fits no weight .* proj_out.dora_scale"),
    "one half": ({"proj_out.lora_A.weight": torch.ones(RANK, WIDTH)}, "only one half of proj_out"),
    "alpha only": ({"proj_out.alpha": torch.tensor(1.0)}, "only one half of proj_out"),
    "wide": (PAIR | {"proj_out.lora_A.weight": torch.ones(RANK, 9)}, r"does not fit .* proj_out\.weight is"),
    "ranks": (PAIR | {"proj_out.lora_A.weight": torch.ones(2, WIDTH)}, r"does not fit .* by \(2, 8\)"),
    "difference": ({"proj_out.diff_b": torch.ones(3)}, r"proj_out\.bias is \(3,\)"),
    "a row": (PAIR | {"proj_out.lora_A.weight": torch.ones(3)}, r"proj_out is of no use: down \(3,\)"),
    "no rank": ({name: tensor[:0] for name, tensor in PAIR.items()}, "proj_out is of no use"),
    "alphas": (PAIR | {"proj_out.alpha": torch.ones(2)}, r"of no use: .*alpha \(2,\)"),
    "twice": (
        PAIR | {"transformer.proj_out.lora_A.weight": torch.ones(1)},
        "says twice what to add to proj_out",
    ),
    "empty": ({}, "is empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_named(tmp_path: Path, kind: str) -> None:
    tensors, words = BAD[kind]
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=words):
        merge_lora(Tree(LAYERS), tmp_path / "lora.safetensors")


def test_a_file_that_is_no_lora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        merge_lora(Tree(LAYERS), tmp_path / "none.safetensors")
    (tmp_path / "lora.safetensors").write_bytes(b"PK")
    with pytest.raises(WeightsError, match="not safetensors"):
        merge_lora(Tree(LAYERS), tmp_path / "lora.safetensors")


def test_the_alpha_of_the_metadata_counts(tmp_path: Path) -> None:
    told = {"transformer.r": RANK, "transformer.lora_alpha": 6, "transformer.alpha_pattern": {}}
    path = tmp_path / "lora.safetensors"
    save_file(PAIR, path, {"lora_adapter_metadata": json.dumps(told)})
    model = Tree(["proj_out"])
    before = model.get_submodule("proj_out").weight.clone()
    merge_lora(model, path)
    torch.testing.assert_close(model.get_submodule("proj_out").weight, before + 6.0)  # 6 / rank · rank
    save_file(PAIR, path, {"lora_adapter_metadata": json.dumps(told | {"transformer.use_rslora": True})})
    with pytest.raises(WeightsError, match=r"transformer\.use_rslora, which is not supported"):
        merge_lora(model, path)
    save_file(PAIR, path, {"lora_adapter_metadata": "{"})
    with pytest.raises(WeightsError, match="metadata that cannot be read"):
        merge_lora(model, path)


@pytest.mark.parametrize("style", ["diffusers", "original", "kohya"])
def test_diffusers_merges_the_same(tmp_path: Path, style: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    model = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=8,
        ffn_dim=40, num_layers=2,
    )  # fmt: skip
    names = [name for name in ORIGINAL.values() if name.startswith("blocks.")]
    generator = torch.Generator().manual_seed(8)
    tensors: dict[str, Tensor] = {}
    for name in names:
        rows, columns = model.get_submodule(name).weight.shape
        start = key_styles()[style](name)
        ends = ("lora_B", "lora_A") if style == "diffusers" else ("lora_up", "lora_down")
        tensors[f"{start}.{ends[0]}.weight"] = torch.randn(rows, RANK, generator=generator)
        tensors[f"{start}.{ends[1]}.weight"] = torch.randn(RANK, columns, generator=generator)
        if style != "diffusers":
            tensors[f"{start}.alpha"] = torch.tensor(1.5)
    save_file(tensors, tmp_path / "lora.safetensors")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merge_lora(model, tmp_path / "lora.safetensors", 0.6)
    ours = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    converted = diffusers.WanPipeline.lora_state_dict(tensors)
    model.load_lora_adapter(converted, prefix="transformer")
    model.fuse_lora(lora_scale=0.6)
    model.unload_lora()
    theirs = model.state_dict()
    for name in names:
        assert not ours[f"{name}.weight"].equal(before[f"{name}.weight"])
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-5)
