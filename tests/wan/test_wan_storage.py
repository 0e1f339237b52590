"""Wan checkpoints whose weights are held in other ways: the frames are the same, or differ as they should."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mocgen_weights.wan_names import to_original

SHORT = ("--size", "48x32", "--seconds", "0.5625", "--steps", "2", "--seed", "4", "--attention", "dense")


@pytest.fixture
def frames(run_mocgen, tmp_path: Path, wan_folders: dict[str, Path]):
    """Generates a short film and returns its pictures, file by file."""

    def make(*options: str, model: Path = wan_folders["t2v"]) -> list[bytes]:
        shutil.rmtree(tmp_path / "film", ignore_errors=True)
        outcome = run_mocgen(
            "generate", "a red star", "--model", str(model), "-o", "film/", *SHORT, *options, "--quiet"
        )
        assert outcome.code == 0, outcome.err
        return [path.read_bytes() for path in sorted((tmp_path / "film").glob("*.png"))]

    return make


def test_frames_are_the_same_with_offloaded_blocks(frames) -> None:
    plain = frames("--offload", "none")
    assert len(plain) == 9
    assert frames("--offload", "blocks") == plain
    assert frames() == plain


def test_frames_are_the_same_from_a_transformer_in_the_authors_form(
    frames, wan_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(wan_folders["t2v"], folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    renamed = {  # in diffusers the head's table and those of the blocks have one name
        to_original(name).replace(".head.modulation", ".modulation"): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, file)
    assert {"blocks.0.self_attn.q.weight", "blocks.0.modulation", "head.modulation"} <= renamed.keys()
    assert frames(model=folder) == frames()


def test_a_lora_changes_frames_by_its_scale(frames, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    name = "diffusion_model.blocks.0.self_attn.q"
    save_file(
        {
            f"{name}.lora_down.weight": torch.randn(2, 48, generator=generator),
            f"{name}.lora_up.weight": torch.randn(48, 2, generator=generator),
            f"{name}.alpha": torch.tensor(2.0),
        },
        tmp_path / "look.safetensors",
    )
    plain = frames()
    merged = frames("--lora", "look.safetensors:0.5")
    assert merged != plain
    assert frames("--lora", "look.safetensors:0.25") not in (merged, plain)
    assert frames("--lora", "look.safetensors:0", "--lora", "look.safetensors:0.5") == merged
    assert frames("--lora", "look.safetensors:0.5", "--offload", "blocks") == merged


def test_frames_in_eight_bits_are_others(frames) -> None:
    pytest.importorskip("torchao")
    assert frames("--quantize", "int8") != frames()


def test_a_lora_of_another_model_is_one_line(
    run_mocgen, wan_folders: dict[str, Path], tmp_path: Path
) -> None:
    save_file({"unet.to_q.lora_down.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    outcome = run_mocgen(
        "generate", "a star", "--model", str(wan_folders["t2v"]), *SHORT, "--lora", "other.safetensors"
    )
    assert outcome.code == 1
    assert "fits no weight of this model: unet.to_q.lora_down.weight" in outcome.err
