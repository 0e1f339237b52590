"""Model folders: what is saved comes back, and what is missing, broken or of the wrong shape is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mocgen.bundle import load_bundle, save_bundle
from mocgen.errors import ModelError
from mocgen_weights import WeightsError, read_folder, write_folder

CPU = torch.device("cpu")
Damage = Callable[[Path], None]


def test_a_folder_comes_back_as_it_was_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(4, dtype=torch.int64).view(2, 2).T}
    write_folder(tmp_path / "new" / "model", {"x": [1, "é"]}, tensors)
    config, found = read_folder(tmp_path / "new" / "model")
    assert config == {"x": [1, "é"]}
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(value) for name, value in tensors.items())
    assert len(list((tmp_path / "new" / "model").iterdir())) == 2


def test_a_bundle_comes_back_as_it_was_saved(tiny_model: str, tmp_path: Path) -> None:
    model = load_bundle(tiny_model, device=CPU, dtype=torch.float32)
    save_bundle(model, tmp_path / "copy", training="steps = 3\n")
    copy = load_bundle(str(tmp_path / "copy"), device=CPU, dtype=torch.float32)
    assert (copy.dit.config, copy.codec.config) == (model.dit.config, model.codec.config)
    assert (copy.vocabulary, copy.defaults) == (model.vocabulary, model.defaults)
    for ours, theirs in ((copy.dit, model.dit), (copy.codec, model.codec)):
        assert all(ours.state_dict()[name].equal(value) for name, value in theirs.state_dict().items())
    assert not copy.dit.training
    assert not copy.codec.training
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["training"] == "steps = 3\n"


def edit_config(change: Callable[[dict[str, Any]], object]) -> Damage:
    """A damage to config.json."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """A damage to the tensors."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def write(name: str, content: bytes) -> Damage:
    """Replace a file."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


DAMAGES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no config": (lambda f: (f / "config.json").unlink(), ("holds no config.json",)),
    "no tensors": (lambda f: (f / "model.safetensors").unlink(), ("holds no model.safetensors",)),
    "config is no JSON": (write("config.json", b"{"), ("config.json", "JSON")),
    "config is no text": (write("config.json", b"\xff\xfe"), ("config.json", "JSON")),
    "config is a list": (write("config.json", b"[1]"), ("config.json", "JSON object")),
    "another architecture": (
        edit_config(lambda c: c.update(architecture="wan")),
        ("not a mocgen model", "'wan'", "mocgen-native"),
    ),
    "no architecture": (write("config.json", b"{}"), ("not a mocgen model",)),
    "no words": (edit_config(lambda c: c.pop("words")), ("config.json", "words")),
    "words are a number": (edit_config(lambda c: c.update(words=3)), ("config.json",)),
    "too few word ids": (edit_config(lambda c: c["words"].append("zebra")), ("config.json", "words")),
    "unknown size": (edit_config(lambda c: c["dit"].update(colour=3)), ("config.json", "colour")),
    "no sizes": (edit_config(lambda c: c.pop("dit")), ("config.json", "dit")),
    "sizes are a text": (edit_config(lambda c: c.update(dit="big")), ("config.json",)),
    "a size is a text": (edit_config(lambda c: c["dit"].update(width="big")), ("config.json", "width")),
    "a size is a fraction": (edit_config(lambda c: c["codec"].update(width=1.5)), ("config.json", "width")),
    "no heads": (edit_config(lambda c: c["dit"].update(heads=0)), ("config.json", "heads")),
    "a negative size": (
        edit_config(lambda c: c["dit"].update(refine_width=-1)),
        ("config.json", "dit.refine_width"),
    ),
    "rotary axes": (edit_config(lambda c: c["dit"].update(rope_axes=[8, 8])), ("config.json", "rope_axes")),
    "odd patches": (edit_config(lambda c: c["dit"].update(patch=5)), ("config.json", "patch")),
    "codec and model": (
        edit_config(lambda c: c["codec"].update(size=64)),
        ("config.json", "dit.latent_size must be codec.size / 8"),
    ),
    "no steps": (edit_config(lambda c: c["defaults"].update(steps=0)), ("config.json", "steps")),
    "a rate in words": (edit_config(lambda c: c["defaults"].update(fps="slow")), ("config.json", "fps")),
    "half a group": (edit_config(lambda c: c["defaults"].update(frames=6)), ("config.json", "frames")),
    "truncated": (cut, ("model.safetensors", "truncated")),
    "empty": (write("model.safetensors", b""), ("model.safetensors", "truncated")),
    "another kind of file": (
        write("model.safetensors", b"PK\x03\x04" * 99),
        ("model.safetensors", "not safetensors"),
    ),
    "missing": (
        edit_tensors(lambda t: [t.pop(f"dit.blocks.{n}.attention.qkv.weight") for n in (0, 1)]),
        ("lacks tensors: dit.blocks.0.attention.qkv.weight, dit.blocks.1.attention.qkv.weight",),
    ),
    "all missing": (edit_tensors(lambda t: t.clear()), ("lacks tensors", "more")),
    "unknown": (
        edit_tensors(lambda t: t.update({"dit.extra": torch.zeros(1)})),
        ("holds unknown tensors: dit.extra",),
    ),
    "of no part": (
        edit_tensors(lambda t: t.update({"vae.extra": torch.zeros(1)})),
        ("holds unknown tensors: vae.extra",),
    ),
    "wrongly shaped": (
        edit_tensors(lambda t: t.update({"codec.encoder.1.weight": torch.zeros(2, 3)})),
        ("has wrongly shaped tensors", "(2, 3)"),
    ),
    "other sizes": (edit_config(lambda c: c["dit"].update(depth=3)), ("lacks tensors", "dit.blocks.2")),
    "not finite": (
        edit_tensors(lambda t: t["dit.patch_in.weight"].fill_(torch.nan)),
        ("not finite tensors: dit.patch_in.weight",),
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_one_clear_line(run_mocgen, tiny_model: str, tmp_path: Path, kind: str) -> None:
    damage, named = DAMAGES[kind]
    shutil.copytree(tiny_model, "bad")
    damage(Path("bad"))
    outcome = run_mocgen("generate", "a red star", "--model", "bad", "-o", "v.mp4")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert len(outcome.err) < 400
    for words in ("bad", *named):
        assert words in outcome.err
    assert "please report" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_the_library_raises_one_kind_of_error(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        read_folder(tmp_path / "model")
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_bundle(str(tmp_path / "model"), device=CPU, dtype=torch.float32)
