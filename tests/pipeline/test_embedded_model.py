"""The model that ships with mocgen: found without --model, true to its catalogue entry, follows captions."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from mocgen.bundle import load_native
from mocgen.model.sketch import RADIUS
from mocgen.native_denoiser import draw_sketch
from mocgen.video import probe
from mocgen_weights import embedded_folder, resolve

PLACES = ("under the sea", "in the snowy forest", "in outer space")


def test_the_checkpoint_is_in_the_package_and_has_a_revision() -> None:
    resolved = resolve("embedded")
    assert resolved.folder == embedded_folder()
    assert {path.name for path in resolved.folder.iterdir()} >= {"config.json", "model.safetensors"}
    assert len(resolved.revision) == 12


def test_two_shots_without_a_model_named(run_mocgen) -> None:
    outcome = run_mocgen(
        "generate", "a red star spins in the desert", "the star moves left under the sea",
        "-o", "v.mp4", "--seed", "1", "--steps", "2", "--format", "json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    made = outcome.json
    assert (made["model"], made["revision"]) == ("embedded", resolve("embedded").revision)
    assert (made["frames"], made["fps"], made["width"], made["height"]) == (16, 8.0, 384, 384)
    assert made["unknown_words"] == []
    assert probe(Path("v.mp4")).frames == 16


def test_pictures_look_like_their_place(run_mocgen, frames_of) -> None:
    looks: dict[tuple[str, int], np.ndarray] = {}
    for seed in (1, 2):
        prompts = [f"a red ball stands still {place}" for place in PLACES]
        outcome = run_mocgen(
            "generate", *prompts, "-o", f"v{seed}", "--seed", str(seed), "--steps", "6", "--no-upscale",
            "--attention", "window", "--top-k", "1",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        shots = frames_of(f"v{seed}").reshape(3, 8, 96, 96, 3)
        for place, shot in zip(PLACES, shots, strict=True):
            looks[place, seed] = shot.mean((0, 2))  # (96, 3): the colours of each row
    same = max(np.abs(looks[place, 1] - looks[place, 2]).mean() for place in PLACES)
    other = min(
        np.abs(looks[one, a] - looks[two, b]).mean()
        for one, two in combinations(PLACES, 2)
        for a in (1, 2)
        for b in (1, 2)
    )
    assert same < other


@pytest.fixture(scope="module")
def drawn():
    """The sketch of a caption, (T, 6)."""
    model = load_native("embedded", device=torch.device("cpu"), dtype=torch.float32)

    def draw(caption: str, *, seed: int, size_seed: int = 0) -> torch.Tensor:
        with torch.inference_mode():
            ids = model.read([caption], prompt="", negative="").captions[0]
            return draw_sketch(model.dit.sketcher, ids, seed=seed, size_seed=size_seed)[0]

    return draw


def test_sketches_move_as_captions_say(drawn) -> None:
    for seed in range(3):
        left, right = (
            drawn(f"a red cube moves {way} on the beach", seed=seed)[:, 0] for way in ("left", "right")
        )
        assert (left.diff() < 0).all()
        assert (right.diff() > 0).all()
        assert drawn("a red cube stands still on the beach", seed=seed)[:, :3].std(0).max() < 0.01
        assert (drawn("a red cube grows on the beach", seed=seed)[:, RADIUS].diff() > 0).all()
        heights = drawn("a red cube bounces on the beach", seed=seed)[:, 1]
        assert heights.max() - heights.min() > 0.15
        circle = drawn("a red cube flies in a circle on the beach", seed=seed)[:, :2]
        assert (circle - circle.mean(0)).norm(dim=1).std() < 0.03


def test_a_character_keeps_its_size_through_a_scene(drawn) -> None:
    captions = (
        "a red cube bounces on the beach",
        "the hero moves left in the desert",
        "it spins under the sea",
    )

    def spread(shared: bool) -> float:
        """Mean standard deviation of the radius within a scene."""
        sizes = [
            [
                drawn(text, seed=10 * s + i, size_seed=s if shared else 10 * s + i)[:, RADIUS].mean()
                for i, text in enumerate(captions)
            ]
            for s in range(6)
        ]
        return torch.tensor(sizes).std(1).mean().item()

    assert spread(shared=True) < 0.5 * spread(shared=False)
