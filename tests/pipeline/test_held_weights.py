"""The embedded kind of model with its weights held in other ways, over the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mocgen.video import read_metadata


def pictures(folder: Path) -> list[bytes]:
    """The PNGs of a film, in order."""
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_offloaded_blocks_and_loras(run_mocgen, tiny_model: str, tmp_path: Path) -> None:
    name = "blocks.1.attention.qkv"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(1, 64), f"{name}.lora_B.weight": 0.05 * torch.ones(192, 1)},
        tmp_path / "look.safetensors",
    )
    ways = {
        "plain": (),
        "blocks": ("--offload", "blocks"),
        "lora": ("--lora", "look.safetensors:0.5"),
        "both": ("--lora", "look.safetensors:0.5", "--offload", "blocks"),
    }
    for way, options in ways.items():
        outcome = run_mocgen(
            "generate", "a red star", "a blue ball", "--model", tiny_model, "--seed", "3", "--no-upscale",
            "-o", f"{way}/", *options,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
    assert pictures(tmp_path / "blocks") == pictures(tmp_path / "plain")
    assert pictures(tmp_path / "lora") != pictures(tmp_path / "plain")
    assert pictures(tmp_path / "both") == pictures(tmp_path / "lora")
    again = run_mocgen("generate", "--repeat", "lora", "-o", "again/", "--offline")
    assert again.code == 0, again.err
    assert pictures(tmp_path / "again") == pictures(tmp_path / "lora")
    assert "look.safetensors:0.5" in run_mocgen("info", "lora").out
    assert "look.safetensors:0.5" in read_metadata(tmp_path / "again")["mocgen"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lora", "none.safetensors"), "no such LoRA file: none.safetensors"),
        (("--lora", "none.safetensors:0.5"), "no such LoRA file: none.safetensors"),
        (("--lora", "look.safetensors:99"), "scale of LoRA look.safetensors must be from -10 to 10"),
        (("--lora", "look.safetensors:nan"), "scale of LoRA look.safetensors"),
        (("--offload", "blocks", "--quantize", "int8"), "do not go together"),
        (("--offload", "disk"), "disk"),
        (("--quantize", "int3"), "int3"),
    ],
)
def test_bad_ways_are_refused_before_anything_is_loaded(
    run_mocgen, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "look.safetensors").write_bytes(b"")
    outcome = run_mocgen("generate", "a star", "--model", "owner/name", *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
