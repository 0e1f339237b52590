"""One denoising step of transformers of real size, by diffusers' own attention and by Mixture of Contexts.

    python kernels/bench/end_to_end.py                  # on a GPU: Triton kernels, some minutes
    python kernels/bench/end_to_end.py --dry            # on any machine: tiny shapes through every line

Transformers shaped like Wan2.1-T2V-1.3B and Wan2.2-TI2V-5B, with random weights, through
`mocgen.integrations.diffusers`; one video without guidance, contexts of a latent frame. Each measurement is
written to --out as it comes and is not taken again; after --minutes no further one begins.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from measuring import Clock, extra_memory, hardware
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "weights")]
from mocgen.integrations.diffusers import disable_moc, enable_moc, moc_info  # noqa: E402

TEXT_TOKENS = 512
SPARSE_DENSITY = 0.15  # the paper's headline, whatever the length


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A transformer, and the tokens of a latent frame at its usual size."""

    heads: int
    layers: int
    ffn: int
    channels: int
    rows: int
    columns: int
    head_dim: int = 128
    text: int = 4096

    def build(self, device: str, dtype: torch.dtype) -> Any:
        """The transformer with random weights, made where it runs."""
        with torch.device("meta"):
            transformer = WanTransformer3DModel(
                num_attention_heads=self.heads,
                attention_head_dim=self.head_dim,
                num_layers=self.layers,
                ffn_dim=self.ffn,
                in_channels=self.channels,
                out_channels=self.channels,
                text_dim=self.text,
            )
            rope = transformer.rope
            transformer.rope = nn.Identity()
        transformer = transformer.to(dtype).to_empty(device=device).eval().requires_grad_(False)
        for parameter in transformer.parameters():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        with torch.device(device):  # its tables are computed, not loaded
            transformer.rope = type(rope)(self.head_dim, (1, 2, 2), 1024)
        return transformer

    def inputs(self, frames: int, device: str, dtype: torch.dtype) -> dict[str, Any]:
        generator = torch.Generator(device).manual_seed(0)
        made = {"generator": generator, "device": device, "dtype": dtype}
        return {
            "hidden_states": torch.randn(1, self.channels, frames, 2 * self.rows, 2 * self.columns, **made),
            "encoder_hidden_states": torch.randn(1, TEXT_TOKENS, self.text, **made),
            "timestep": torch.tensor([500], device=device),
            "return_dict": False,
        }


MODELS = {
    "Wan2.1-1.3B": Shape(heads=12, layers=30, ffn=8960, channels=16, rows=30, columns=52),
    "Wan2.2-5B": Shape(heads=24, layers=30, ffn=14336, channels=48, rows=22, columns=40),
}
DRY = {"tiny": Shape(heads=2, layers=2, ffn=64, channels=4, rows=2, columns=3, head_dim=24, text=16)}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is measured."""

    model: str
    frames: int
    tokens: int
    way: str  # "dense" (diffusers' own attention) or "moc"
    top_k: int

    @property
    def label(self) -> str:
        return "dense" if self.way == "dense" else f"k = {self.top_k}"


def main() -> None:
    options = parse()
    began = time.monotonic()
    models = DRY if options.dry else MODELS
    rows: list[dict[str, Any]] = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {Cell(**row["cell"]) for row in rows}
    left = [cell for cell in cells(models, options.lengths, options.top_k) if cell not in done]
    built: tuple[str, Any] = ("", None)
    while left and time.monotonic() - began < 60 * options.minutes:
        cell = left.pop(0)
        if built[0] != cell.model:
            built = ("", None)  # let go of the one before
            built = (cell.model, models[cell.model].build(options.device, options.dtype))
        rows.append({"cell": asdict(cell), **measure(cell, models[cell.model], built[1], options)})
        report = {"hardware": hardware(options.device), "torch": torch.__version__, "rows": rows}
        options.out.write_text(json.dumps(report, indent=1))
    print_table(rows)
    print(
        f"{hardware(options.device)}, torch {torch.__version__}, {options.out}; not measured yet: {len(left)}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[33_000, 94_000, 180_000], help="tokens, about"
    )
    parser.add_argument("--top-k", type=int, default=3, help="a fixed budget, besides a density of 0.15")
    parser.add_argument("--backend", choices=["auto", "cpu", "triton"])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--dry", action="store_true", help="tiny shapes, in fp32 where there is no GPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cpu" and not options.dry:
        parser.error("real sizes need a GPU; --dry goes through every line without one")
    if options.dry:
        options.lengths = [12, 60]
    options.backend = options.backend or ("triton" if options.device == "cuda" else "auto")
    options.dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    options.out = options.out or Path("end_to_end_dry.json" if options.dry else "end_to_end.json")
    return options


def cells(models: dict[str, Shape], lengths: list[int], top_k: int) -> list[Cell]:
    """All measurements, the shortest first."""
    found = []
    for name, shape in models.items():
        for length in lengths:
            frame = shape.rows * shape.columns
            frames = max(2, round(length / frame))
            budgets = {min(k, frames - 1) for k in (top_k, round(SPARSE_DENSITY * frames) - 1) if k > 0}
            ways = [("dense", 0), *(("moc", k) for k in sorted(budgets))]
            found += [
                Cell(model=name, frames=frames, tokens=frames * frame, way=way, top_k=k) for way, k in ways
            ]
    return found


def measure(cell: Cell, shape: Shape, transformer: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step (None: it did not run), peak memory with the weights in bytes, and density."""
    inputs = shape.inputs(cell.frames, options.device, options.dtype)
    held = sum(x.numel() * x.element_size() for x in transformer.parameters())
    if cell.way == "moc":
        enable_moc(transformer, top_k=cell.top_k, backend=options.backend)
    try:
        with torch.no_grad():
            peak = held + extra_memory(options.device, lambda: transformer(**inputs))  # compiles, too
            seconds = Clock(options.device, runs=1).time(lambda: transformer(**inputs))
        density = moc_info(transformer).density if cell.way == "moc" else 1.0
    except RuntimeError as error:
        print(f"{cell}: {str(error).splitlines()[0]}", file=sys.stderr)
        return {"seconds": None, "peak": None, "density": None}
    finally:
        if cell.way == "moc":
            disable_moc(transformer)
    return {"seconds": seconds, "peak": peak, "density": density}


def print_table(rows: list[dict[str, Any]]) -> None:
    dense = {
        (row["cell"]["model"], row["cell"]["tokens"]): row["seconds"]
        for row in rows
        if row["cell"]["way"] == "dense"
    }
    lines = [("model", "tokens", "attention", "density", "step s", "speed-up", "peak GB")]
    for row in rows:
        cell = Cell(**row["cell"])
        if row["seconds"] is None:
            lines.append((cell.model, str(cell.tokens), cell.label, "-", "-", "-", "-"))
            continue
        before = dense.get((cell.model, cell.tokens))
        lines.append(
            (
                cell.model, str(cell.tokens), cell.label, f"{row['density']:.3f}", f"{row['seconds']:.3f}",
                f"{before / row['seconds']:.2f}x" if before else "-", f"{row['peak'] / 1e9:.2f}",
            )
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
