"""Proof on the CPU that a checkpoint of real size loads and runs: Wan2.1-T2V-1.3B's shape, random weights.

    python kernels/bench/full_size.py

Writes 2.8 GB of bf16 safetensors to a temporary folder, loads them into mocgen's transformer and makes one
step of a small video; then the same in diffusers' transformer, with and without Mixture of Contexts. Prints
seconds, peak memory and how far the outputs are apart. Needs 4 GB of memory.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from measuring import hardware
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "weights")]
from mocgen.integrations.diffusers import disable_moc, enable_moc, moc_info  # noqa: E402
from mocgen.model.attention import Routing  # noqa: E402
from mocgen.model.wan import FP32, WanDiT, WanShot  # noqa: E402
from mocgen.model.wan_config import WanConfig  # noqa: E402
from mocgen_weights import load_module  # noqa: E402

FRAMES, SIDE = 5, 16  # latents
TOP_K = 1
CPU = torch.device("cpu")


def main() -> None:
    torch.manual_seed(0)
    latents, text = torch.randn(1, FRAMES, 16, SIDE, SIDE), torch.randn(1, 512, 4096)
    with tempfile.TemporaryDirectory() as folder:
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(Path(folder),))
        writer.start()  # in a process of its own, so that its memory does not count
        writer.join()
        outputs = {"mocgen": by_mocgen(Path(folder), latents, text)}
        gc.collect()
        outputs |= by_diffusers(Path(folder), latents, text)
    own = outputs.pop("diffusers").float()
    for name, out in outputs.items():
        print(f"{name}: {float((out - own).norm() / own.norm()):.1e} from diffusers")
    print(f"{hardware('cpu')}, torch {torch.__version__}, bf16, {FRAMES * SIDE**2 // 4} tokens")


def by_mocgen(folder: Path, latents: Tensor, text: Tensor) -> Tensor:
    with torch.device("meta"):
        model = WanDiT(WanConfig())
    took("load into mocgen", lambda: load(model, folder))
    print(f"parameters {sum(x.numel() for x in model.parameters()):,}, tensors {len(model.state_dict())}")
    shot = WanShot(index=0, start=0, text=text, latents=latents, t=torch.full((1, FRAMES), 500.0))
    velocity: Tensor = took("step, mocgen", lambda: model([shot], routing=Routing())[0])
    return velocity


def by_diffusers(folder: Path, latents: Tensor, text: Tensor) -> dict[str, Tensor]:
    model = build()
    took("load into diffusers", lambda: load(model, folder))

    def call() -> Tensor:
        velocity = model(latents.transpose(1, 2).bfloat16(), torch.tensor([500]), text.bfloat16()).sample
        return velocity.transpose(1, 2)

    outputs = {"diffusers": took("step, diffusers", call)}
    ways: dict[str, dict[str, Any]] = {"dense": {"attention": "dense"}, f"k = {TOP_K}": {"top_k": TOP_K}}
    for way, chosen in ways.items():
        enable_moc(model, **chosen)
        outputs[f"plug-in, {way}"] = took(f"step, plug-in, {way}", call)
        print(f"density {moc_info(model).density:.3f}")
        disable_moc(model)
    return outputs


def took(what: str, run: Callable[[], Any]) -> Any:
    """Print the seconds and the peak of resident memory of a run under no_grad (Linux); its result."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.monotonic()
    with torch.no_grad():
        result = run()
    seconds = time.monotonic() - began
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(f"{what}: {seconds:.1f} s, at most {peak / 1e6:.2f} GB resident", flush=True)
    return result


def write(folder: Path) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        slots = WanDiT(WanConfig()).state_dict()
    save_file({name: random(name, slot) for name, slot in slots.items()}, folder / "model.safetensors")


def random(name: str, slot: Tensor) -> Tensor:
    """Weights that keep activations near unit size."""
    if "norm" in name:
        return torch.full(slot.shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    return torch.randn(slot.shape, dtype=torch.bfloat16) * slot[0].numel() ** -0.5


def build() -> Any:
    """diffusers' transformer without memory, but for its table of positions."""
    with torch.device("meta"):
        model = WanTransformer3DModel(num_attention_heads=12, num_layers=30, ffn_dim=8960, text_dim=4096)
        rope = type(model.rope)
        model.rope = nn.Identity()
    model.rope = rope(128, (1, 2, 2), 1024)
    return model


def load(module: nn.Module, folder: Path) -> None:
    load_module(module, folder, dtype=torch.bfloat16, device=CPU, fp32=FP32)
    module.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
