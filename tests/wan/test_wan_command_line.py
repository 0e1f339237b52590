"""`mocgen generate`, `extend` and `inspect-routing` with checkpoints of the Wan family."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from mocgen.video import VideoWriter, read_frames

SMALL = ("--size", "64x32", "--steps", "2", "--seed", "7", "--format", "json")


@pytest.fixture
def run(run_mocgen, wan_folders: dict[str, Path]):
    """Runs a command with one of the tiny checkpoints; returns its JSON object and what it noted."""

    def run(command: str, model: str, *arguments: str) -> tuple[dict, str]:
        outcome = run_mocgen(command, "--model", str(wan_folders[model]), *arguments, *SMALL)
        assert outcome.code == 0, outcome.err
        return outcome.json, outcome.err

    return run


def frames_of(path: str) -> np.ndarray:
    return np.stack(list(read_frames(Path(path))))


@pytest.mark.parametrize(("model", "causal"), [("ti2v", True), ("skyreels", True), ("t2v", False)])
def test_two_shots(run, run_mocgen, model: str, causal: bool) -> None:
    rate = 16 if model == "t2v" else 24
    made, notes = run(
        "generate", model, "a red star", "a blue star", "--seconds", str(8 / rate), "-o", "a.mp4"
    )
    assert (made["frames"], made["fps"], made["shots"]) == (9 + 8, rate, 2)
    assert (made["width"], made["height"], made["top_k"]) == (64, 32, 3)
    assert 0 < made["density"] < 1
    assert made["revision"]
    assert "experimental" in notes
    frames = frames_of("a.mp4")
    assert len(frames) == 17
    assert frames.std() > 10
    recorded = run_mocgen("info", "a.mp4", "--format", "json").json["mocgen"]
    assert recorded["settings"]["causal"] is causal
    assert recorded["revision"] == made["revision"]
    again = run_mocgen("generate", "--repeat", "a.mp4", "-o", "b.mp4", "--format", "json")
    assert again.code == 0, again.err
    assert np.array_equal(frames_of("b.mp4"), frames)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """An ordinary clip of moving stripes: 80×48, 10 frames a second, half a second."""
    path = tmp_path / "clip.mp4"
    stripes = np.arange(80)[None, None, :, None] * [3, 2, 1] + 20 * np.arange(5)[:, None, None, None]
    with VideoWriter(path, width=80, height=48, fps=Fraction(10), metadata={}) as writer:
        writer.write(np.broadcast_to(stripes % 256, (5, 48, 80, 3)).astype(np.uint8))
    return path


@pytest.mark.parametrize("model", ["ti2v", "skyreels"])
@pytest.mark.parametrize("way", [(), ("--no-causal", "--attention", "dense"), ("--context-noise", "0.05")])
def test_extend(run, clip: Path, model: str, way: tuple[str, ...]) -> None:
    """The clip's own frames come first, at its size and rate; 8 frames at 24 a second become 3."""
    made, notes = run("extend", model, str(clip), "a blue star", "--seconds", "0.34", "-o", "long.mp4", *way)
    assert (made["frames"], made["fps"], made["width"], made["height"]) == (5 + 3, 10, 80, 48)
    assert ("experimental" in notes) == ("dense" not in way)
    long, short = frames_of("long.mp4"), frames_of(str(clip))
    assert np.abs(long[:5].astype(int) - short).mean() < 4
    assert long[5:].std() > 10


def test_a_still_picture_goes_on(run) -> None:
    y, x = np.mgrid[0:48, 0:80]
    imsave("photo.png", np.stack((3 * x, 5 * y, x + y), axis=-1).astype(np.uint8))
    made, _ = run("extend", "ti2v", "photo.png", "a blue star", "--seconds", "0.34", "-o", "long.mp4")
    assert (made["fps"], made["frames"], made["width"], made["height"]) == (25, 1 + 8, 80, 48)


def test_the_shots_of_a_clip_have_captions(run, run_mocgen, make_film, wan_folders: dict[str, Path]) -> None:
    make_film("film.mp4", (8, 17), held=3)
    line = ("film.mp4", "a blue star", "--seconds", "0.34", "--context-seconds", "3", "-o", "long.mp4")

    def continuation(*texts: str) -> np.ndarray:
        typed = [part for text in texts for part in ("--clip-prompt", text)]
        made, _ = run("extend", "ti2v", *line, "--overwrite", *typed)
        assert [shot["begin"] for shot in made["clip_shots"]] == [0.125, 1]
        assert [shot["caption"] for shot in made["clip_shots"]] == [texts[0], texts[-1]]
        return frames_of("long.mp4")[75:].astype(int)

    usual, other = continuation("a red star", "a boat"), continuation("a dark night", "a boat")
    assert np.abs(usual - other).max() > 2
    assert np.array_equal(continuation("a boat"), continuation("a boat", "a boat"))
    outcome = run_mocgen(
        "extend", *line, "--overwrite", *SMALL[:2], "--model", str(wan_folders["ti2v"]),
        *("--clip-prompt", "a boat") * 3,
    )  # fmt: skip
    assert outcome.code == 2
    assert "the clip shows 2 shots from 0.125 s on, with a cut at 1 s" in outcome.err


def test_no_context_of_a_clip_straddles_a_cut(run, make_film) -> None:
    """Of 6 and 27 frames: 2 and 7 latent frames, in contexts of two."""
    make_film("film.mp4", (2, 9), held=3)
    typed = ("--clip-prompt", "a red star", "--clip-prompt", "a boat", "--contexts", "2", "--out", "report")
    run("inspect-routing", "ti2v", "--clip", "film.mp4", "a blue star", "--seconds", "0.34", *typed)
    report = json.loads(Path("report/routing.json").read_text())
    assert [context["shot"] for context in report["contexts"]] == [0, 1, 1, 1, 1, 2]
    assert report["captions"] == ["a red star", "a boat", "a blue star"]


def test_what_is_remembered_matters(run, clip: Path) -> None:
    """Other clips, other continuations; a little noise in the memory, a slightly other one."""

    def continuation(*arguments: str) -> np.ndarray:
        run("extend", "ti2v", *arguments, "a blue star", "--seconds", "0.34", "-o", "long.mp4", "--overwrite")
        return frames_of("long.mp4")[5:].astype(int)

    usual, noisy = continuation(str(clip)), continuation(str(clip), "--context-noise", "0.3")
    last_frame_only = continuation(str(clip), "--context-seconds", "0.01")
    assert np.abs(usual - noisy).max() > 2
    assert np.abs(usual - last_frame_only).max() > 2


@pytest.mark.parametrize(
    ("contexts", "shots", "frames"),
    [
        ("1", [0, 0, 0, 1, 1, 2, 2], [[0, 1], [1, 5], [5, 9], [0, 4], [4, 8], [0, 4], [4, 8]]),
        ("2", [0, 0, 1, 2], [[0, 5], [5, 9], [0, 8], [0, 8]]),
        ("1x1", [0] * 6 + [1] * 4 + [2] * 4, None),
    ],
)
def test_inspect_routing_with_a_clip(
    run, clip: Path, contexts: str, shots: list[int], frames: list[list[int]] | None
) -> None:
    made, _ = run(
        "inspect-routing", "ti2v", "--clip", str(clip), "a blue star", "a red star", "--seconds", "0.34",
        "--top-k", "1", "--contexts", contexts, "--out", "report",
    )  # fmt: skip
    report = json.loads(Path("report/routing.json").read_text())
    assert [context["shot"] for context in report["contexts"]] == shots
    assert frames is None or [context["frames"] for context in report["contexts"]] == frames
    assert made["loops"] == 0
    assert Path("report/index.html").is_file()


def test_density_of_one_usual_clip(run) -> None:
    """81 frames are 21 latent frames; each token sees its own and the three that it retrieves."""
    made, _ = run("generate", "t2v", "a red star", "-o", "a.mp4")
    assert made["frames"] == 81
    assert made["density"] == pytest.approx(4 / 21)
    wider, _ = run(
        "generate", "t2v", "a red star", "--local-window", "1", "--first-frame", "--top-k", "2", "-o", "b.mp4"
    )
    # own frame, two neighbours, the first frame, two retrieved; less where some coincide or are missing
    assert wider["density"] == pytest.approx((21 * 6 - 4) / 21**2)


@pytest.mark.parametrize(
    ("model", "arguments", "line"),
    [
        ("t2v", ("extend", "clip.mp4", "a star"), "cannot extend a clip: it knows one noise level"),
        (
            "t2v",
            ("generate", "a star", "--contexts", "8x"),
            "neither a number of frames such as 4 nor a tile",
        ),
        ("t2v", ("generate", "a star", "--causal"), "makes all shots jointly"),
        ("ti2v", ("generate", "a star", "--contexts", "2x2", "--local-window", "1"), "means whole frames"),
        ("ti2v", ("generate", "a star", "--contexts", "2x2", "--first-frame"), "means whole frames"),
        ("t2v", ("generate", "a star", "--contexts", "2x2", "--attention", "window"), "means whole frames"),
        (
            "t2v",
            ("generate", "a star", "--size", "60x40"),
            "multiples of 16 with this model; try --size 64x32",
        ),
        (
            "ti2v",
            ("generate", "a star", "--size", "48x40"),
            "multiples of 32 with this model; try --size 64x32",
        ),
    ],
)
def test_what_a_checkpoint_cannot_do(
    run_mocgen, wan_folders: dict[str, Path], clip: Path, model: str, arguments: tuple[str, ...], line: str
) -> None:
    outcome = run_mocgen(*arguments, "--model", str(wan_folders[model]), "-o", "out.mp4")
    assert outcome.code == 2
    assert line in outcome.err
    assert not Path("out.mp4").exists()


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("model_index.json", {"boundary_ratio": 0.9}, "two experts"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline"),
        ("transformer/config.json", {"in_channels": 36}, "no text-to-video model"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ("vae/config.json", None, "vae/config.json is missing"),
        ("transformer/diffusion_pytorch_model.safetensors", None, "no weights"),
        ("text_encoder/model.safetensors", None, "no weights"),
    ],
)
def test_a_broken_folder_is_named_in_one_line(
    run_mocgen, wan_folders: dict[str, Path], tmp_path: Path, file: str, change: dict | None, line: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(wan_folders["ti2v"], folder)
    if change is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    outcome = run_mocgen("generate", "a star", "--model", str(folder), "-o", "out.mp4", *SMALL[:4])
    assert outcome.code == 1
    assert line in outcome.err
    assert not Path("out.mp4").exists()


def test_without_the_packages_one_line_says_what_to_install(
    run_mocgen, wan_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mocgen.wan.model.find_spec", lambda name: None if name == "diffusers" else name)
    outcome = run_mocgen("generate", "a star", "--model", str(wan_folders["t2v"]), "-o", "out.mp4")
    assert outcome.code == 1
    assert "pip install" in outcome.err


def test_bf16(run) -> None:
    made, notes = run(
        "generate", "skyreels", "a star", "--seconds", "0.2", "--dtype", "bf16", "--attention", "dense",
        "-o", "a.mp4",
    )  # fmt: skip
    assert made["frames"] == 5
    assert "experimental" not in notes
    assert frames_of("a.mp4").std() > 10


@pytest.mark.parametrize(
    ("attention", "density"),
    [
        ("dense", 1.0),
        ("random", 2 / 4),
        ("window", (2 + 2 + 2 + 2 + 2) / 16),
        ("first-frame", (4 + 4 + 2) / 16),
    ],
)
def test_baselines(run, attention: str, density: float) -> None:
    """Two shots of two latent frames, made jointly, with one frame to retrieve.

    window: the neighbours, and the last frame before the own shot; first-frame: the own shot, and the first
    frame of the earlier one.
    """
    made, _ = run(
        "generate", "t2v", "a red star", "a blue star", "--seconds", "0.4", "--attention", attention,
        "--top-k", "1", "--guidance", "1", "-o", "a.mp4",
    )  # fmt: skip
    assert made["frames"] == 5 + 8
    assert made["density"] == pytest.approx(density)
