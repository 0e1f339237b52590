"""Benchmark of the operator against dense attention, on the same tensors in one run.

    python kernels/bench/attention.py --lengths 8192 32768 --backward
    python kernels/bench/attention.py --lengths 8192 16384 32768 65536 --top-k 5     # fixed budget: exponent

Every context is a shot of its own, routing is not causal, and the own context is the only anchor, so the
density is (top_k + 1) contexts of all. Times are the best of some runs; ours include routing. Rows are
written to --out as they come; a row that is there already is not measured again. For GPUs see gpu.py.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import Case, best_dense, chosen, measure_dense, measure_moc
from measuring import Clock, flex, hardware

FLEX_MAX_LENGTH = {"cpu": 8192, "cuda": 65536}  # its block mask takes L² bytes per head to build


def main() -> None:
    options = parse()
    if options.cpu_time:
        torch.set_num_threads(1)
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for length in options.lengths:
        known = {(row["length"], row["context"], row["top_k"], row["dtype"], row["backend"]) for row in rows}
        top_k = options.top_k
        if top_k is None:
            top_k = max(0, round((1 - options.sparsity) * length / options.context) - 1)
        if (length, options.context, top_k, options.dtype, options.backend) in known:
            continue
        rows.append(measure(options, length, top_k))
        report = {"hardware": hardware(options.device), "torch": torch.__version__, "rows": rows}
        options.out.write_text(json.dumps(report, indent=1))
    print_table(rows)
    print(f"{hardware(options.device)}, torch {torch.__version__}; {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 8192, 32768])
    parser.add_argument("--context", type=int, default=256, help="tokens per context")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument(
        "--sparsity", type=float, default=0.85, help="share of contexts that are not attended to"
    )
    parser.add_argument("--top-k", type=int, help="instead of --sparsity")
    parser.add_argument("--dtype", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--backend", choices=["auto", "cpu", "triton"], default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backward", action="store_true", help="forward and backward together, too")
    parser.add_argument(
        "--flex", action="store_true", help="FlexAttention with the same mask, too (compiles)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of the processor instead of the clock on the wall; one thread",
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    return parser.parse_args()


def measure(options: argparse.Namespace, length: int, top_k: int) -> dict[str, Any]:
    """One row: seconds, ratios, memory."""
    case = Case(
        length=length,
        context=options.context,
        top_k=top_k,
        heads=options.heads,
        dim=options.dim,
        dtype=options.dtype,
        device=options.device,
        backend=options.backend,
    )
    tensors, clock = case.tensors(), Clock(options.device, options.runs, cpu_time=options.cpu_time)
    moc = measure_moc(case, tensors, clock, backward=options.backward)
    times = measure_dense(tensors, options.device, clock, backward=options.backward)
    if options.flex and length <= FLEX_MAX_LENGTH[options.device]:
        attend = flex(chosen(case, *tensors[:2]), *tensors[:3])
        times["flex"] = {"flex": clock.time(attend)}
    return {**asdict(case), "dense": times, **moc}


def print_table(rows: list[dict[str, Any]]) -> None:
    heads = ("tokens", "context", "k", "dtype", "method", "density", "dense s", "moc s", "ratio", "of limit",
             "routing", "fwd+bwd", "flex", "memory")  # fmt: skip
    lines = [heads]
    for row in rows:
        times, moc, both = row["dense"], row["forward"], row.get("forward_backward")
        dense, flexed = best_dense(times["forward"]), times.get("flex", {}).get("flex")
        lines.append(
            (
                str(row["length"]), str(row["context"]), str(row["top_k"]), row["dtype"], row["method"],
                f"{row['density']:.3f}", f"{dense:.4f}", f"{moc:.4f}", f"{dense / moc:.2f}x",
                f"{dense / moc * row['density']:.0%}", f"{row['routing'] / moc:.1%}",
                f"{best_dense(times['forward_backward']) / both:.2f}x" if both else "-",
                f"{flexed / moc:.1f}x" if flexed else "-", f"{row['extra_memory']:.2f}",
            )
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print("ratio: dense / moc, routing included. memory: peak beyond q, k, v and the result, in their size.")
    print_exponent([row for row in rows if row["top_k"] == rows[-1]["top_k"]])


def print_exponent(rows: list[dict[str, Any]]) -> None:
    """Slope of log seconds over log tokens, by least squares, of rows with one budget."""
    x = [math.log(row["length"]) for row in rows]
    y = [math.log(row["forward"]) for row in rows]
    spread = [a - sum(x) / len(x) for a in x]
    if any(spread):
        slope = sum(a * b for a, b in zip(spread, y, strict=True)) / sum(a * a for a in spread)
        print(f"cost exponent over tokens at k = {rows[-1]['top_k']}: {slope:.3f}")


if __name__ == "__main__":
    main()
