"""Every kernel compiles for compute capability 8.0 and 9.0 on any machine, without spills."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")

from triton import knobs  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from mocgen_kernels._triton import (  # noqa: E402
    descriptors,
    forward,
    key_gradient,
    lists,
    overlap,
    query_gradient,
    query_major,
    query_major_gradient,
    routing,
    summary_gradient,
)
from mocgen_kernels._triton.device import interpreted  # noqa: E402
from mocgen_kernels._triton.tiling import Purpose, padded_dim, tiling  # noqa: E402

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes that one block of threads may have
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
POINTERS = {
    "*u8": {"candidates", "skips"},
    "*i32": {
        "tiles", "spans_of", "spans", "ranges_of", "ranges", "offsets", "lists", "queries", "words", "counts",
        "order", "unions",
    },
    "*i64": {"begins", "starts"},
    "*fp32": {"peak", "total", "acc", "lse", "delta", "sums", "means", "logs", "dk_sums", "dv_sums", "work"},
}  # fmt: skip
OF_DTYPE = {"q", "k", "v", "k_means", "v_means", "out", "grad", "dq", "dk", "dv"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel with the constants that it is launched with."""

    kernel: Any
    dtype: torch.dtype = torch.bfloat16
    constants: dict[str, int | bool] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3

    def __str__(self) -> str:
        values = [f"{name}={value}" for name, value in self.constants.items()]
        return "-".join([self.kernel.__name__, NAMES[self.dtype], *values])

    def signature(self) -> dict[str, str]:
        """The type of every argument, in Triton's words."""
        types = dict[str, str]()
        for name in self.kernel.arg_names:
            found = [kind for kind, names in POINTERS.items() if name in names]
            if name in self.constants:
                found = ["constexpr"]
            elif name in OF_DTYPE:
                pooled = name == "out" and self.kernel is descriptors.pool_kernel
                found = ["*fp32" if pooled else f"*{NAMES[self.dtype]}"]
            types[name] = (found or ["fp32" if name in ("scale", "factor", "top_p") else "i32"])[0]
        return types


ATTENTION: dict[Purpose, tuple[Any, ...]] = {
    "forward": (forward.routed_kernel, forward.dense_kernel),
    "query-gradient": (
        query_gradient.routed_query_gradient_kernel,
        query_gradient.dense_query_gradient_kernel,
    ),
    "key-gradient": (key_gradient.key_gradient_kernel,),
    "summary-gradient": (summary_gradient.summary_gradient_kernel,),
    "query-major": (query_major.query_major_kernel, query_major_gradient.query_major_gradient_kernel),
}


def attention_cases(dtype: torch.dtype, dim: int) -> Iterator[Case]:
    """The main kernels, with compensation and without."""
    for purpose, kernels in ATTENTION.items():
        if purpose == "query-major" and dtype not in overlap.DTYPES:
            continue
        tile = tiling(purpose, dtype, dim)
        for kernel in kernels:
            constants = {"D": dim, "DP": padded_dim(dim), "BM": tile.rows, "BN": tile.keys}
            if "ROUTED" in kernel.arg_names:
                constants["ROUTED"] = True
            flags = [{"SKIPS": False}, {"SKIPS": True}] if "SKIPS" in kernel.arg_names else [{}]
            for flag in flags:
                constants |= flag
                case = Case(kernel=kernel, dtype=dtype, constants=dict(constants))
                yield replace(case, warps=tile.warps, stages=tile.stages)


HEAVY = (
    forward.routed_kernel,
    query_gradient.routed_query_gradient_kernel,
    key_gradient.key_gradient_kernel,
    query_major_gradient.query_major_gradient_kernel,
)


def sizes() -> Iterator[tuple[Case, int]]:
    """Every dtype and dimension: one thoroughly; of the others two heavy kernels, in turn, for one target."""
    for number, (dtype, dim) in enumerate(product(NAMES, (64, 80, 96, 128))):
        turn, target = (number + number // 4) % 2, (80, 90)[(number // 2 + number // 4) % 2]
        for case in attention_cases(dtype, dim):
            if (dtype, dim) == (torch.bfloat16, 128):
                yield case, 80
                yield case, 90
            elif case.kernel in HEAVY[turn::2] and not case.constants.get("SKIPS"):
                yield case, target


def others() -> Iterator[Case]:
    """Kernels that do not depend on the size of tiles of keys."""
    rows = {"D": 128, "DP": 128, "BM": forward.FINISH_ROWS}
    yield Case(kernel=forward.finish_kernel, constants=rows)
    yield Case(kernel=query_gradient.finish_gradient_kernel, constants=rows)
    yield Case(kernel=descriptors.pool_kernel, constants={"D": 128, "DP": 128, "BLOCK": descriptors._BLOCK})
    yield Case(kernel=overlap.union_kernel, constants={"BM": tiling("query-major", torch.bfloat16, 128).rows})
    yield Case(kernel=lists.count_kernel, constants={"BLOCK": lists._BLOCK})
    yield Case(kernel=lists.fill_kernel, constants={"BLOCK": lists._BLOCK})
    for number in range(6):  # a kernel for every power of two of contexts
        for several, nucleus in product((False, True), repeat=2):
            contexts, dim = 32 << number, (80, 128)[number % 2]
            block, warps = routing.shape_of(contexts, several=several, nucleus=nucleus)
            flags = {"SEVERAL": several, "NUCLEUS": nucleus}
            constants = {**flags, "D": dim, "DP": 128, "BM": block, "CP": contexts}
            yield Case(kernel=routing.choose_kernel, constants=constants, warps=warps)


@pytest.mark.skipif(interpreted(), reason="the interpreter has no compiler")
@pytest.mark.parametrize(
    ("case", "capability"), [*sizes(), *((case, x) for case in others() for x in (80, 90))], ids=str
)
def test_compiles_without_spills(
    case: Case,
    capability: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record_property: Any,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # a cached kernel has no log of the assembler
    monkeypatch.setattr(knobs.nvidia, "dump_ptxas_log", True)
    signature = case.signature()
    aligned = [
        index
        for index, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or re.search("_(batch|row|head)$", name)
    ]
    source = ASTSource(
        case.kernel, signature, case.constants, {(index,): [["tt.divisibility", 16]] for index in aligned}
    )
    options = {"num_warps": case.warps, "num_stages": case.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    log = capfd.readouterr().out
    registers = int(re.search(r"Used (\d+) registers", log)[1])
    spills = [int(size) for size in re.findall(r"(\d+) bytes spill", log)]
    record_property("figures", f"{registers} registers, {compiled.metadata.shared} bytes shared, {spills}")
    assert len(spills) >= 2, log
    assert not any(spills), log
    assert compiled.metadata.shared <= SHARED_MEMORY[capability]
