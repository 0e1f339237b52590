"""The results of gpu.py for people."""

from __future__ import annotations

from typing import Any

from cases import best_dense


def name_of(row: dict[str, Any]) -> str:
    """A case in words."""
    return f"{row['length']} by {row['context']}, top {row['top_k']}"


def print_results(done: dict[str, Any]) -> None:
    """Parity in a line, then a row per case."""
    checks = {name: x for name, x in done.items() if name.startswith("parity")}
    failed = [name for name, x in checks.items() if not x.get("passed")]
    print(f"\n{done['machine']}\nparity: {len(checks) - len(failed)} of {len(checks)} passed")
    for name in failed:
        print(f"  {name}: {done[name]}")
    if "unit tests" in done:
        print(f"unit tests: {done['unit tests']}")
    peak = done.get("matmul", {}).get("tflops")
    print(f"matmul: {peak:.0f} TFLOP/s" if peak else "matmul: not measured")
    heads = ("tokens", "context", "density", "dense s", "moc s", "ratio", "of limit", "fwd+bwd", "of limit",
             "routing", "TFLOP/s", "flex", "memory")  # fmt: skip
    lines = [
        heads,
        *(line(x, done) for name, x in done.items() if name.startswith("moc") and "error" not in x),
    ]
    widths = [max(len(row[i]) for row in lines) for i in range(len(heads))]
    for row in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for name, x in done.items():
        if name.startswith("moc") and "error" in x:
            print(f"{name}: {x['error']}")
    print(
        "ratio: fastest dense / moc, routing included; memory: beyond q, k, v and the result, in their size"
    )


def line(row: dict[str, Any], done: dict[str, Any]) -> tuple[str, ...]:
    """One row of the table; "-" for what was not measured."""
    times = done.get(f"dense {row['length']}", {})

    def ratio(kind: str) -> tuple[str, str]:
        best, mine = best_dense(times.get(kind, {})), row[kind]
        if best is None or mine is None:
            return "-", "-"
        return f"{best / mine:.2f}x", f"{best / mine * row['density']:.0%}"

    def seconds(x: float | None) -> str:
        return "-" if x is None else f"{x:.4f}"

    forward, flexed = row["forward"], done.get(f"flex {name_of(row)}")
    flops = 4 * row["density"] * row["length"] ** 2 * row["heads"] * row["dim"]
    return (
        str(row["length"]), str(row["context"]), f"{row['density']:.3f}",
        seconds(best_dense(times.get("forward", {}))), seconds(forward),
        *ratio("forward"), *ratio("forward_backward"),
        f"{row['routing'] / forward:.1%}" if forward and row["routing"] else "-",
        f"{flops / forward / 1e12:.1f}" if forward else "-",
        f"{flexed / forward:.1f}x" if forward and isinstance(flexed, float) else "-",
        f"{row['extra_memory']:.2f}",
    )  # fmt: skip
