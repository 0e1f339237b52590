"""Benchmark of the operator against dense attention, on the same tensors in one run.

    python kernels/bench/attention.py
    python kernels/bench/attention.py --lengths 8192 16384 32768 65536 --top-k 5     # fixed budget: exponent

Every context is a shot of its own, routing is not causal, and the own context is the only anchor, so the
density is (top_k + 1) contexts of all. Times are the best of some runs; ours include routing. Rows are
written to --out as they come; one that is there already, with what is asked for, is not measured again.
For GPUs see gpu.py.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
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
    asked = {name: getattr(options, name) for name in ("backward", "flex", "cpu_time")}
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for case in cases(options):
        wanted = {**asdict(case), **asked}
        if any(wanted.items() <= row.items() for row in rows):
            continue
        rows = [row for row in rows if not asdict(case).items() <= row.items()]
        rows.append({**wanted, **measure(case, options)})
        last = [row for row in rows if row["top_k"] == case.top_k]
        report = {
            "hardware": hardware(options.device),
            "torch": torch.__version__,
            "exponent": {"top_k": case.top_k, "value": exponent(last)},
            "rows": rows,
        }
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
    parser.add_argument(
        "--backward", action=argparse.BooleanOptionalAction, default=True, help="with the backward pass, too"
    )
    parser.add_argument(
        "--flex",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"FlexAttention with the same mask, too; up to {FLEX_MAX_LENGTH['cpu']} tokens on a CPU",
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of the processor instead of the clock on the wall; one thread",
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    return parser.parse_args()


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """One for every length."""
    for length in options.lengths:
        top_k = options.top_k
        if top_k is None:
            top_k = max(0, round((1 - options.sparsity) * length / options.context) - 1)
        yield Case(
            length=length,
            context=options.context,
            top_k=top_k,
            heads=options.heads,
            dim=options.dim,
            dtype=options.dtype,
            device=options.device,
            backend=options.backend,
        )


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """One row: seconds, None where something cannot run; memory."""
    tensors, clock = case.tensors(), Clock(options.device, options.runs, cpu_time=options.cpu_time)
    moc = measure_moc(case, tensors, clock, backward=options.backward)
    times = measure_dense(tensors, options.device, clock, backward=options.backward)
    row = {"dense": times, **moc}
    if options.flex and case.length <= FLEX_MAX_LENGTH[options.device]:
        row["flex_forward"] = clock.time(flex(chosen(case, *tensors[:2]), *tensors[:3]))
    return {**row, "failures": clock.failures}


def print_table(rows: list[dict[str, Any]]) -> None:
    heads = ("tokens", "context", "k", "dtype", "method", "density", "dense s", "moc s", "ratio", "of limit",
             "routing", "bwd", "fwd+bwd", "flex", "memory")  # fmt: skip
    lines = [heads, *(line(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for cells in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    print(
        "ratios: to moc, routing included; bwd: what both passes take beyond the forward pass. "
        "memory: peak of the forward pass beyond q, k, v and the result, in their size."
    )
    last = [row for row in rows if row["top_k"] == rows[-1]["top_k"]]
    if (slope := exponent(last)) is not None:
        print(f"cost exponent over tokens at k = {last[-1]['top_k']}: {slope:.3f}")


def line(row: dict[str, Any]) -> tuple[str, ...]:
    """One row of the table; "-" for what was not asked for, "failed" for what could not run."""
    forward, both = row["forward"], row.get("forward_backward")
    dense = best_dense(row["dense"]["forward"])
    dense_both = best_dense(row["dense"].get("forward_backward", {}))

    def ratio(theirs: float | None, ours: float | None, form: str = ".2f") -> str:
        return f"{theirs / ours:{form}}x" if theirs and ours else "failed"

    backward = ("-", "-")
    if row["backward"]:
        later = dense_both - dense if dense_both and dense else None
        backward = ratio(later, both - forward if both and forward else None), ratio(dense_both, both)
    return (
        str(row["length"]), str(row["context"]), str(row["top_k"]), row["dtype"], row["method"],
        f"{row['density']:.3f}", *("failed" if x is None else f"{x:.4f}" for x in (dense, forward)),
        ratio(dense, forward), f"{dense / forward * row['density']:.0%}" if dense and forward else "failed",
        f"{row['routing'] / forward:.1%}" if row["routing"] and forward else "failed", *backward,
        ratio(row["flex_forward"], forward, ".1f") if "flex_forward" in row else "-",
        f"{row['extra_memory']:.2f}",
    )  # fmt: skip


def exponent(rows: list[dict[str, Any]]) -> float | None:
    """Slope of log seconds over log tokens, by least squares; None for a single length."""
    points = [(math.log(row["length"]), math.log(row["forward"])) for row in rows if row["forward"]]
    if len({x for x, _ in points}) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


if __name__ == "__main__":
    main()
