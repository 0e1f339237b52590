"""What the benchmark measures: times, memory, and dense attention in its several forms."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

DENSE = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}

_SHORTEST = 0.05  # seconds; what is faster is repeated


class Clock:
    """Best time of some runs; of the processor alone with `cpu_time`, for machines that others use too."""

    def __init__(self, device: str, runs: int, *, cpu_time: bool = False) -> None:
        self.device, self.runs = device, runs
        self.failures = list[str]()  # why something has no time
        self._now = time.process_time if cpu_time else time.perf_counter

    def time(self, run: Callable[[], Any]) -> float | None:
        """Seconds; None where it cannot run on this device."""
        try:
            run()
            once = self._once(run, 1)
            repeats = min(100, max(1, int(_SHORTEST / once)))
            more = self.runs if repeats > 1 else self.runs - 1
            return min([once, *(self._once(run, repeats) for _ in range(more))])
        except RuntimeError as error:
            self.failures.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            print(f"not measured: {self.failures[-1]}", file=sys.stderr)
            return None

    def _once(self, run: Callable[[], Any], repeats: int) -> float:
        self._wait()
        start = self._now()
        for _ in range(repeats):
            run()
        self._wait()
        return (self._now() - start) / repeats

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def dense_ways(device: str, q: Tensor, k: Tensor, v: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Dense attention by every backend that the device may have."""

    def attend(backend: SDPBackend) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with sdpa_kernel(backend):
                parts = (x.transpose(1, 2) for x in (q, k, v))
                return scaled_dot_product_attention(*parts).transpose(1, 2)

        return run

    for name, backend in DENSE.items():
        if device == "cuda" or name == "flash":
            yield name, attend(backend)


def flex(selection: Any, q: Tensor, k: Tensor, v: Tensor, *, compiled: bool = True) -> Callable[[], Tensor]:
    """FlexAttention with the mask of the selection; the mask is built outside of the time."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    attended = (selection.routed() | selection.anchors()).to(q.device)  # (B, H, Lq, C)
    contexts = selection.layout.token_contexts(q.device)

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return attended[b, h, i, contexts[j]]

    mask = create_block_mask(sees, q.shape[0], q.shape[2], q.shape[1], k.shape[1], device=str(q.device))
    torch._dynamo.reset()  # else lengths become variables, and inductor's code for CPUs doesn't compile
    attend = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
    parts = [x.transpose(1, 2) for x in (q, k, v)]
    return lambda: attend(*parts, block_mask=mask).transpose(1, 2)


def extra_memory(device: str, run: Callable[[], Any]) -> float:
    """Peak bytes above what is there before, the result included."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    with watch() as peak:
        run()
    return peak[0]


@contextmanager
def watch() -> Iterator[list[float]]:
    """Growth of the resident memory within the block, by samples every millisecond."""
    page, done = os.sysconf("SC_PAGE_SIZE"), threading.Event()

    def resident() -> float:
        return float(Path("/proc/self/statm").read_text().split()[1]) * page

    before, peak = resident(), [0.0]

    def sample() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident() - before)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def hardware(device: str) -> str:
    """The device in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].split(':')[1].strip()}, {torch.get_num_threads()} threads"
