"""load_module: a checkpoint comes into a module of any dtype, and whatever is wrong with it is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mocgen_weights import WeightsError, load_module, read_checkpoint
from mocgen_weights import tensor_file as tensor_file_module

CPU = torch.device("cpu")
Shard = Callable[[dict[str, Tensor], Path], Path]


class Small(nn.Module):
    """A bit of everything: weights, a norm to keep in fp32, buffers in and out of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.blocks = nn.ModuleList(nn.Linear(6, 6, bias=False) for _ in range(3))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("table", torch.arange(5.0, device=CPU), persistent=False)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in Small().state_dict().items()
        if value.is_floating_point()
    }
    return found | {"count": torch.tensor([3, 2**40])}


def small() -> Small:
    with torch.device("meta"):
        return Small()


def write_raw(path: Path, header: Any, data: bytes = b"") -> None:
    """Write a safetensors file whose header is whatever is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["model", "diffusion_pytorch_model", "other", "shards", "file"])
def test_values_come_in_the_wanted_dtype(
    tensors: dict[str, Tensor],
    tmp_path: Path,
    dtype: torch.dtype,
    stored: torch.dtype,
    form: str,
    shard: Shard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensor_file_module, "_CHUNK", 12)  # several pieces for every tensor
    tensors = {
        name: value.to(stored) if value.is_floating_point() else value for name, value in tensors.items()
    }
    source = tmp_path
    if form == "shards":
        shard(tensors, tmp_path)
    else:
        save_file(tensors, tmp_path / f"{form}.safetensors")
        source = tmp_path / "file.safetensors" if form == "file" else tmp_path
    module = small()
    load_module(module, source, dtype=dtype, device=CPU, fp32=("norm", "mean"))
    own = module.state_dict()
    assert own.keys() == tensors.keys()
    for name, value in own.items():
        wanted = torch.float32 if name.startswith(("norm", "mean")) else dtype
        assert value.dtype == (wanted if value.is_floating_point() else torch.int64)
        assert value.equal(tensors[name].to(value.dtype))
    assert module.table.equal(torch.arange(5.0))
    assert isinstance(module.first.weight, nn.Parameter)
    assert module.first(torch.zeros(1, 4, dtype=dtype)).equal(module.first.bias[None])


def test_names_are_mapped_and_twins_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({f"old.{name}": value for name, value in tensors.items()}, tmp_path / "model.safetensors")
    module = small()
    load_module(
        module, tmp_path, dtype=torch.float32, device=CPU, rename=lambda name: name.removeprefix("old.")
    )
    assert module.first.weight.equal(tensors["first.weight"])
    with pytest.raises(WeightsError, match=r"holds two tensors for old\.blocks, one of them"):
        load_module(small(), tmp_path, dtype=torch.float32, device=CPU, rename=lambda name: name[:10])


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Embedding(3, 2)
            self.tokens = self.shared

    weight = torch.randn(3, 2)
    save_file({"tokens.weight": weight}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        module = Tied()
    load_module(module, tmp_path, dtype=torch.float32, device=CPU)
    assert module.shared.weight is module.tokens.weight
    assert module.shared.weight.equal(weight)


def test_a_buffer_of_no_file_must_not_be_on_the_meta_device(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    module = small()
    module.table = module.table.to("meta")
    with pytest.raises(ValueError, match="buffer table"):
        load_module(module, tmp_path, dtype=torch.float32, device=CPU)


Edit = Callable[[dict[str, Tensor]], object]
EDITS: dict[str, tuple[Edit, str]] = {
    "missing": (lambda t: t.pop("norm.bias"), r"lacks tensors: norm\.bias$"),
    "many missing": (
        lambda t: [t.pop(name) for name in list(t) if name != "mean"],
        r"lacks tensors: count, first\.weight, first\.bias and 5 more$",
    ),
    "unknown": (lambda t: t.update(x=torch.zeros(1)), "holds unknown tensors: x$"),
    "both": (lambda t: t.update(x=t.pop("mean")), "lacks tensors: mean; it holds unknown tensors: x$"),
    "shape": (
        lambda t: t.update(mean=torch.zeros(2, 3)),
        r"wrongly shaped tensors: mean is \(2, 3\), should be \(6,\)$",
    ),
    "a scalar": (lambda t: t.update(mean=torch.tensor(1.0)), r"wrongly shaped tensors: mean is \(\)"),
    "whole numbers": (
        lambda t: t.update(mean=torch.zeros(6, dtype=torch.int32)),
        "mean is torch.int32, should be torch.float32$",
    ),
    "not finite": (
        lambda t: t["blocks.2.weight"].view(-1)[-1].fill_(torch.nan),
        r"tensor blocks\.2\.weight.*finite",
    ),
    "infinities": (
        lambda t: t["mean"].copy_(torch.tensor([1, 2, -3, 4, 1, -1]) * torch.inf),
        "tensor mean.*finite",
    ),
}


@pytest.mark.parametrize("form", ["one file", "shards"])
@pytest.mark.parametrize("kind", EDITS)
def test_tensors_that_do_not_fit_are_named(
    tensors: dict[str, Tensor], tmp_path: Path, kind: str, form: str, shard: Shard
) -> None:
    edit, words = EDITS[kind]
    edit(tensors)
    if form == "shards":
        shard(tensors, tmp_path)
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=words):
        load_module(small(), tmp_path, dtype=torch.bfloat16, device=CPU)


def test_huge_finite_values_are_finite(tmp_path: Path) -> None:
    module = nn.Linear(4, 1, bias=False, device="meta")
    save_file({"weight": torch.full((1, 4), 3e38)}, tmp_path / "model.safetensors")
    load_module(module, tmp_path, dtype=torch.float32, device=CPU)
    assert module.weight.equal(torch.full((1, 4), 3e38))


def one(begin: int, end: int, shape: tuple[object, ...] = (2,), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "not JSON": (b"{", b"", "its header is not JSON"),
    "deep": (b"[" * 100_000, b"", "its header is not JSON"),
    "a list": ([], b"", "no JSON object"),
    "a name twice": (b'{"a":{},"a":{}}', b"", "its header is not JSON"),
    "no facts": ({"a": 3}, b"", "nothing is said about tensor a"),
    "unknown dtype": ({"a": one(0, 8, dtype="F7")}, bytes(8), "tensor a is of the kind 'F7'"),
    "no dtype": ({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4), "of the kind None"),
    "no place": ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4), "no shape or no place"),
    "negative shape": ({"a": one(0, 8, (-1, -2))}, bytes(8), "no shape or no place"),
    "a shape of truths": ({"a": one(0, 4, (True,))}, bytes(4), "no shape or no place"),
    "backwards": ({"a": one(8, 0)}, bytes(8), "has -8 bytes"),
    "too few bytes": ({"a": one(0, 4)}, bytes(4), "tensor a of shape (2,) has 4 bytes"),
    "outside": ({"a": one(0, 8)}, bytes(4), "its tensors end at byte"),
    "far outside": ({"a": one(0, 8), "b": one(2**60, 2**60 + 8)}, bytes(8), "tensor b lies after a gap"),
    "overlapping": ({"a": one(0, 8), "b": one(4, 12)}, bytes(12), "tensor b overlaps another"),
    "a gap": ({"a": one(0, 8), "b": one(12, 20)}, bytes(20), "tensor b lies after a gap"),
    "more bytes": ({"a": one(0, 8)}, bytes(9), "its tensors end at byte"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, kind: str) -> None:
    header, data, words = HEADERS[kind]
    path = tmp_path / "model.safetensors"
    write_raw(path, header, data)
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(tmp_path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\xff" * 8, struct.pack("<Q", 2**40) + b"{}", b"PK\3\4" * 9]
)
def test_an_absurd_header_length_is_refused_before_it_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="truncated or not safetensors"):
        read_checkpoint(tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    entries = read_checkpoint(tmp_path)
    last = max(entries.values(), key=lambda entry: entry.end)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(last.end - 1)
    with pytest.raises(WeightsError, match="ends within a tensor"):
        tensor_file_module.read_into(last, torch.empty(last.shape, dtype=last.dtype))


def edit_index(change: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    """A damage to the index of a sharded folder."""

    def damage(index: Path) -> None:
        content = json.loads(index.read_text())
        change(content["weight_map"])
        index.write_text(json.dumps(content))

    return damage


INDICES: dict[str, tuple[Callable[[Path], object], str]] = {
    "not JSON": (lambda index: index.write_text("{"), "is no index"),
    "no map": (lambda index: index.write_text("{}"), "is no index"),
    "a list": (lambda index: index.write_text("[]"), "is no index"),
    "outside": (edit_index(lambda m: m.update(mean="../model.safetensors")), "no safetensors file beside it"),
    "absolute": (edit_index(lambda m: m.update(mean="/model.safetensors")), "no safetensors file beside it"),
    "a pickle": (edit_index(lambda m: m.update(mean="pytorch_model.bin")), "no safetensors file beside it"),
    "no such file": (
        edit_index(lambda m: m.update(mean="x.safetensors")),
        r"lacks what its index names: x\.safetensors",
    ),
    "a tensor more": (edit_index(lambda m: m.update(x=next(iter(m.values())))), "do not agree about x;"),
    "a tensor less": (edit_index(lambda m: m.pop("mean")), "do not agree about mean;"),
    "the wrong file": (
        edit_index(lambda m: m.update(mean=next(file for file in m.values() if file != m["mean"]))),
        "do not agree about mean;",
    ),
}


@pytest.mark.parametrize("kind", INDICES)
def test_an_index_that_is_wrong_is_refused(
    tensors: dict[str, Tensor], tmp_path: Path, kind: str, shard: Shard
) -> None:
    damage, words = INDICES[kind]
    damage(shard(tensors, tmp_path))
    with pytest.raises(WeightsError, match=words):
        read_checkpoint(tmp_path)


def test_pickles_and_doubtful_folders_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no weights"):
        read_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(WeightsError, match="only pickled weights"):
        read_checkpoint(tmp_path)
    for name in ("a", "b"):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"several weights \(a\.safetensors, b\.safetensors\)"):
        read_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="no such file or folder"):
        read_checkpoint(tmp_path / "none")
