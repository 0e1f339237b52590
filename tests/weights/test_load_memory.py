"""What loading a checkpoint of a gigabyte takes, measured by the system.

VmHWM is the largest resident memory of a process: what it allocated and, had files been mapped, their pages
too. It is set to the present by writing 5 to clear_refs; the interpreter and torch are counted apart.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

WIDTH, DEPTH = 6144, 16

PROGRAM = """
import sys
from pathlib import Path
import torch
from torch import nn
from mocgen.model.storage import Storage, load_transformer
from mocgen_weights import match_weights

class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.first = nn.Linear(width, 1, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

width, depth, offload = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
nn.Linear(4, 4, dtype=torch.bfloat16)(torch.ones(1, 4, dtype=torch.bfloat16))
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS:")
with torch.device("meta"):
    net = Net(width, depth)
weights = match_weights(net, Path(sys.argv[1]), dtype=torch.bfloat16)
load_transformer(net, weights, Storage(offload=offload), torch.device("cpu"))
with torch.inference_mode():
    out = net(torch.ones(1, width, dtype=torch.bfloat16))
assert out.shape == (1, width) and float(out[0, 0]) == 2.0 ** depth, out
print((memory("VmHWM:") - before) / weights.bytes)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 1.2 GB in bf16, stored as fp32: matrices of zeros but for a 2 in their first place."""
    header, end = {}, 0
    for name, rows in [("first.weight", 1), *((f"blocks.{n}.weight", WIDTH) for n in range(DEPTH))]:
        size = 4 * rows * WIDTH
        header[name] = {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder = tmp_path_factory.mktemp("large")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for facts in header.values():
            file.seek(8 + len(text) + facts["data_offsets"][0])
            file.write(struct.pack("<f", 2.0))
        file.truncate(8 + len(text) + end)  # the zeros take no room on the disk
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(("offload", "low", "high"), [("none", 0.99, 1.15), ("blocks", 0.05, 0.35)])
def test_peak_memory_in_shares_of_the_weights(folder: Path, offload: str, low: float, high: float) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    arguments = [str(folder), str(WIDTH), str(DEPTH), offload]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert low < float(done.stdout) < high
