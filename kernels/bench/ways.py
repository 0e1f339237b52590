"""What every exact way to attend on the CPU costs, and whether the one taken loses to dense attention.

    python kernels/bench/ways.py
    python kernels/bench/ways.py --lengths 1024 --contexts 64

Milliseconds on random tensors, 4 heads of 64 dimensions; every context is a shot. The ways are measured with
the routing done beforehand, visits of choices in which tokens have no say as unmasked attention. Next to them
is the estimate of `mocgen_kernels.plan` for the one that is taken, which starts from the time of dense
attention. Ratios are dense / `moc_attention`, routing included.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from cases import Case, chosen, with_backward
from measuring import Clock, dense_ways, hardware

from mocgen_kernels import attention_info, cpu, masked, moc_attention

HEADS = ("tokens", "context", "k", "causal", "density", "dense", "masked", "visits", "estimate", "taken",
         "ratio", "fwd+bwd")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256], help="tokens per context")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print("  ".join(HEADS))
    for case in cases(options.lengths, options.contexts):
        cells = measure(case, Clock("cpu", options.runs))
        print("  ".join(cell.rjust(len(head)) for cell, head in zip(cells, HEADS, strict=True)), flush=True)
    print(f"{hardware('cpu')}, torch {torch.__version__}")


def cases(lengths: list[int], contexts: list[int]) -> Iterator[Case]:
    """One context routed to, a quarter, half, three quarters of all and all of them; causal and not."""
    for length in lengths:
        for context in contexts:
            count = length // context
            for top_k in sorted({1, count // 4, count // 2, 3 * count // 4, count} - {0}):
                for causal in (True, False):
                    yield Case(
                        length=length,
                        context=context,
                        top_k=top_k,
                        heads=4,
                        dim=64,
                        dtype="fp32",
                        device="cpu",
                        backend="auto",
                        causal=causal,
                    )


def measure(case: Case, clock: Clock) -> list[str]:
    """One row of the table."""
    tensors, layout = case.tensors(), case.layout
    q, k, v, _ = tensors
    selection = chosen(case, q, k)
    info = attention_info(selection, q)
    attend = dict(dense_ways("cpu", q, k, v))["flash"]

    def ours() -> torch.Tensor:
        return moc_attention(q, k, v, layout, **case.settings)

    def visits() -> torch.Tensor:
        selection.kept.clear()  # lists are made anew
        return cpu.routed_attention(q, k, v, selection)

    def products() -> torch.Tensor:
        return masked.routed_attention(q, k, v, selection)

    def milliseconds(seconds: float | None) -> str:
        return "-" if seconds is None else f"{1e3 * seconds:.2f}"

    dense, moc = clock.time(attend) or 0.0, clock.time(ours) or 1.0
    both = [clock.time(with_backward(run, tensors)) or 1.0 for run in (attend, ours)]
    return [
        str(case.length),
        str(case.context),
        str(case.top_k),
        "yes" if case.causal else "no",
        f"{selection.density():.2f}",
        milliseconds(dense),
        *(milliseconds(clock.time(way)) for way in (products, visits)),
        milliseconds(dense * info.cost / info.dense),
        info.method,
        f"{dense / moc:.2f}x",
        f"{both[0] / both[1]:.2f}x",
    ]


if __name__ == "__main__":
    main()
