"""Weights in eight bits are smaller and the outputs close; without torchao one line says what to install."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mocgen.errors import ModelError
from mocgen.model.storage import Storage, hold_transformer, load_transformer
from mocgen.settings import QuantizeName, Settings
from mocgen_weights import match_weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.mark.parametrize("way", ["loaded", "held"])
@pytest.mark.parametrize(("name", "error"), [("int8", 0.01), ("fp8", 0.05)])
def test_outputs_are_close(tmp_path: Path, name: QuantizeName, error: float, way: str) -> None:
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    plain = Net().to(torch.bfloat16)
    save_file(plain.state_dict(), tmp_path / "model.safetensors")
    storage = Storage(quantize=name)
    if way == "loaded":
        with torch.device("meta"):
            found = Net()
        weights = match_weights(found, tmp_path, dtype=torch.bfloat16)
        load_transformer(found, weights, storage, torch.device("cpu"))
    else:
        found = Net().to(torch.bfloat16)
        found.load_state_dict(plain.state_dict())
        hold_transformer(found, storage, torch.device("cpu"))
    assert "torchao" in type(found.blocks[0][0].weight).__module__
    assert found.blocks[2][2].weight.qdata.element_size() == 1
    assert type(found.first.weight) is nn.Parameter
    x = torch.randn(20, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = plain(x).float()
        distance = float((found(x).float() - expected).norm() / expected.norm())
    assert 0 < distance < error


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Storage.of(Settings()).quantize is None
    with pytest.raises(ModelError, match=r"quantize int8 needs torchao.*pip install 'mocgen\[quant\]'"):
        Storage.of(Settings(quantize="int8"))
