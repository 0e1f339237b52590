"""What each exact way to attend on the CPU costs, measured and as `mocgen_kernels.plan` estimates it.

    python kernels/bench/ways.py

Milliseconds on random tensors, 4 heads of 64 dimensions; estimates start from the time of dense attention on
the same tokens. Routing is done beforehand. In several threads visits have theirs to themselves here; in a
model those of torch may still spin, for which the estimates add a penalty.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from measuring import Clock, dense_ways

sys.path.insert(0, str(Path(__file__).parents[1]))
from mocgen_kernels import ContextLayout, Kind, attention_info, batched, cpu, masked, route

CASES = (  # tokens, tokens per context, top_k, causal
    (512, 64, 1, False),
    (1024, 64, 2, False),
    (1024, 64, 2, True),
    (1024, 32, 16, True),
    (1024, 64, 12, False),
    (1024, 256, 1, False),
    (1024, 256, 2, False),
    (2048, 64, 5, True),
    (2048, 256, 1, False),
    (4096, 256, 2, False),
    (4096, 64, 5, True),
)


def main() -> None:
    clock = Clock("cpu", runs=5)
    print("tokens  context  k  causal  dense   masked  batched  visits  estimate  taken")
    for length, context, top_k, causal in CASES:
        q, k, v = (torch.randn(1, length, 4, 64) for _ in range(3))
        count = length // context
        layout = ContextLayout(lengths=[context] * count, kinds=[Kind.VIDEO] * count, shots=range(count))
        selection = route(q, k, layout, top_k=top_k, causal=causal)
        dense = clock.time(dict(dense_ways("cpu", q, k, v))["flash"]) or 0.0
        whole = clock.time(lambda: masked.routed_attention(q, k, v, selection)) or 0.0  # noqa: B023
        visited = clock.time(lambda: cpu.routed_attention(q, k, v, selection)) or 0.0  # noqa: B023

        def at_once() -> None:
            selection.__dict__.pop("lists", None)  # noqa: B023
            batched.routed_attention(q, k, v, selection)  # noqa: B023

        listed = clock.time(at_once) or 0.0
        info = attention_info(selection, q)
        times = "  ".join(
            f"{1e3 * x:7.2f}" for x in (dense, whole, listed, visited, dense * info.cost / info.dense)
        )
        print(f"{length:6}  {context:7} {top_k:2}  {causal!s:6} {times}  {info.method}")


if __name__ == "__main__":
    main()
