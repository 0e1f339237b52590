"""A training run that takes a second: a tiny model on four tiny scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mocgen.training.progress import Progress
from mocgen.training.run import train

RECIPE = """
seed = 3
save_every = 2
sample_every = 100
probe_every = 2
threads = 1

[data]
looks = 4
clips = 2
codec_looks = 2
frames = 8
workers = 1

[codec]
size = 32
width = 8
blocks = 1

[model]
width = 32
depth = 1
heads = 1
rope_axes = [8, 8, 8, 8]
refine_width = 8
refine_blocks = 1
stem_width = 8
stem_blocks = 1
readout = 1
rotated_routing = false

[codec_training]
steps = 3
decoder_steps = 3
batch = 4

[stem_training]
steps = 3
frozen = true
batch = 4

[[training.stages]]
steps = 2
batch = 4
shots = 1

[[training.stages]]
steps = 3
batch = 2
shots = 2
top_k = 1
drop_off = 0.5
drop_in = 1.0

[training]
shot_span = 4
look_weight = 0.1
"""

SKETCHES = """
[sketch_training]
steps = 3
batch = 8
"""


@pytest.fixture(scope="session")
def full_recipe() -> str:
    """The run with all that a recipe may have: sketches, a painter, heads that are taught to retrieve."""
    text = RECIPE.replace("depth = 1", "depth = 3")
    text = text.replace(
        "readout = 1\n", "readout = 1\nsketch_frames = 8\nsketch_width = 16\npaint_width = 8\n"
    )
    return text.replace("look_weight", "recall_weight = 0.1\npaint_weight = 0.1\nlook_weight") + SKETCHES


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The file that describes the run."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def _own_threads() -> Iterator[None]:
    """A run sets the number of threads; other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that is done: its description, its folder, and what it told on the way."""

    recipe: Path
    folder: Path
    heard: tuple[Progress, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, _own_threads: None) -> FinishedRun:
    """The run, never interrupted. Tests do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    heard: list[Progress] = []
    (folder / "recipe.toml").write_text(RECIPE)
    train(folder / "recipe.toml", folder / "run", on_progress=heard.append)
    return FinishedRun(recipe=folder / "recipe.toml", folder=folder / "run", heard=tuple(heard))
