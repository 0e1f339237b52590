"""A video that says how it was made, as the command line reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mocgen.video import VideoWriter

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Writes a grey video of eight frames that carries `record` as what mocgen says about it."""

    def make(name: str, record: object = None) -> Path:
        metadata = {} if record is None else {"mocgen": json.dumps(record)}
        path = tmp_path / name
        with VideoWriter(path, width=64, height=48, fps=Fraction(8), metadata=metadata) as writer:
            writer.write(np.full((8, 48, 64, 3), 128, dtype=np.uint8))
        return path

    return make
