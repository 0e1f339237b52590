"""Everything that a GPU can tell about the Triton backend, in one command that goes on where it stopped.

    python kernels/bench/gpu.py              # parity, then speed, for some minutes; again: goes on
    python kernels/bench/gpu.py --sanitize   # a small case under compute-sanitizer, where that is installed
    python kernels/bench/gpu.py --dry        # on the CPU, in Triton's interpreter: every line, tiny sizes

Results are written to --out after every step; a step that is there already is not done again. Parity: against
fp64 on drawn queries, see parity.py. Speed: random q, k and v, every context a shot of its own, which gives
routing no coherence. Forward and backward, routing included, against every backend of dense attention on the
same tensors; FlexAttention, forward only, with the same mask, built beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import DTYPES, Case, chosen, measure_dense, measure_moc
from gpu_table import name_of, print_results
from measuring import Clock, flex, hardware
from parity import Parity, check

Step = tuple[str, Callable[[], Any]]
LENGTHS = (4_096, 16_384, 65_536, 180_000, 1_048_576)
LONGEST_DENSE = 180_000  # tokens; a million take half a minute per run
MOST_FLEX = 2**33  # bytes of a mask while it is built: heads · tokens²
SPARSITIES = (0.75, 0.85, 0.95)
MOST_CONTEXTS = 1024  # that are scored in a kernel


def main() -> None:
    options = parse()
    if options.sanitize:
        sanitize(options.dry)
        return
    if options.dry:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is loaded
    elif not torch.cuda.is_available():
        sys.exit("gpu.py needs a CUDA device; try --dry to see that the script itself works")
    device = "cpu" if options.dry else "cuda"
    if options.small:
        for case in small():
            print(case, check(case, device))
        return
    done: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    sizes = {"heads": options.heads, "dim": options.dim}
    if done.setdefault("sizes", sizes) != sizes:
        sys.exit(f"{options.out} holds results of other sizes, {done['sizes']}; choose another --out")
    done["machine"] = f"{hardware(device)}, torch {torch.__version__}"
    start = time.perf_counter()
    every = list(steps(device, options))
    for name, run in every:
        if name in done and not failed(done[name]):
            continue
        if time.perf_counter() - start > 60 * options.minutes:
            break
        print(name, end=" ", flush=True)
        done[name] = attempt(run)
        print(json.dumps(done[name])[:150], flush=True)
        options.out.write_text(json.dumps(done, indent=1))
        if failed(done[name]) and "CUDA error" in done[name]["error"]:
            break  # nothing runs in this process any more
    left = [name for name, _ in every if name not in done or failed(done[name])]
    print_results(done)
    print(f"{len(left)} steps are left: run it again" if left else f"complete: {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="after which no further step begins")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--small", action="store_true", help="the smallest parity cases alone")
    return parser.parse_args()


def attempt(run: Callable[[], Any]) -> Any:
    """What the step gives; an error, of whatever kind, is noted, so that the others are reached."""
    try:
        return run()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def failed(result: Any) -> bool:
    """Whether the step ended in an error and is to be tried again."""
    return isinstance(result, dict) and "error" in result


def steps(device: str, options: argparse.Namespace) -> Iterator[Step]:
    """All steps by name, in order."""
    for case in small() if options.dry else parities():
        yield f"parity {' '.join(str(x) for x in asdict(case).values())}", partial(check, case, device)
    yield "matmul", partial(matmul, device, 64 if options.dry else 8192)
    clock = Clock(device, 1 if options.dry else options.runs)
    for case in speeds(device, options):
        yield f"dense {case.length}", partial(dense, case, clock)
        yield f"moc {name_of(asdict(case))}", partial(ours, case, clock)
        if case.heads * case.length**2 <= MOST_FLEX:
            yield f"flex {name_of(asdict(case))}", partial(flexed, case, clock, options.dry)
    if not options.dry:
        yield "unit tests", unit_tests


def parities() -> list[Parity]:
    """Every dtype and size by either way, then long sequences."""
    ways = {"fp32": ("lists",), "fp16": ("lists", "registers"), "bf16": ("lists", "registers")}
    cases = [
        Parity(length=3_000, frame=300, heads=2, dim=dim, dtype=dtype, way=way)
        for dim in (64, 80, 128)
        for dtype in DTYPES
        for way in ways[dtype]
    ]
    for length, frame in ((20_000, 256), (60_000, 1560), (180_000, 256), (180_000, 1560)):
        kinds = ("bf16",) if length > 20_000 else ("bf16", "fp16", "fp32")
        cases += [
            Parity(length=length, frame=frame, heads=4, dim=128, dtype=dtype, way="auto", top_k=5)
            for dtype in kinds
        ]
    return cases


def small() -> list[Parity]:
    """What an interpreter or a sanitizer can go through; bf16 is not for the interpreter."""
    return [
        Parity(length=120, frame=20, heads=1, dim=16, dtype="fp32", way="lists", top_k=1, queries=9),
        Parity(length=120, frame=20, heads=1, dim=16, dtype="fp16", way="registers", top_k=1, queries=9),
    ]


def speeds(device: str, options: argparse.Namespace) -> Iterator[Case]:
    """What is measured, short sequences first."""
    for length in (64,) if options.dry else LENGTHS:
        for context in (16,) if options.dry else (256, 1560):
            count = length // context
            if count > MOST_CONTEXTS:
                continue
            shares = (0.5,) if options.dry else SPARSITIES if length <= LONGEST_DENSE else SPARSITIES[-1:]
            for top_k in sorted({max(0, round((1 - share) * count) - 1) for share in shares}):
                yield Case(
                    length=length,
                    context=context,
                    top_k=top_k,
                    heads=1 if options.dry else options.heads,
                    dim=16 if options.dry else options.dim,
                    dtype="fp32" if options.dry else "bf16",
                    device=device,
                    backend="triton",
                )


def matmul(device: str, size: int) -> dict[str, float]:
    """TFLOP/s of a square matrix product, bf16 on a GPU."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = Clock(device, 3).time(lambda: a @ b)
    assert seconds is not None
    return {"tflops": 2 * size**3 / seconds / 1e12}


def dense(case: Case, clock: Clock) -> dict[str, Any]:
    """Dense attention of the same size, by every backend."""
    if case.length > LONGEST_DENSE:
        return {"forward": {}, "forward_backward": {}}
    return measure_dense(case.tensors(), case.device, clock, backward=True)


def ours(case: Case, clock: Clock) -> dict[str, Any]:
    """The row of one case."""
    row = measure_moc(case, case.tensors(), clock, backward=True)
    return {**asdict(case), **row}


def flexed(case: Case, clock: Clock, dry: bool) -> float | None:
    """Seconds of FlexAttention with the same mask."""
    q, k, v, _ = case.tensors()
    return clock.time(flex(chosen(case, q, k), q, k, v, compiled=not dry))


def unit_tests() -> dict[str, Any]:
    """The tests of the kernels, compiled; they need pytest and hypothesis."""
    tests = Path(__file__).parents[2] / "tests" / "kernels" / "triton_parity.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=180
    )  # again: Triton's cache is warm
    return {"passed": run.returncode == 0, "last": (run.stdout or run.stderr).strip().splitlines()[-1:]}


def sanitize(dry: bool) -> None:
    """The small parity cases under compute-sanitizer, or the command that would run them."""
    command = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"]
    command += [sys.executable, __file__, "--small"]
    if dry or shutil.which(command[0]) is None:
        why = "would run" if dry else "compute-sanitizer, of the CUDA toolkit, is not installed; it would run"
        print(f"{why}: PYTORCH_NO_CUDA_MEMORY_CACHING=1 {' '.join(command)}")
        return
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    sys.exit(subprocess.run(command, env=environment).returncode)


if __name__ == "__main__":
    main()
