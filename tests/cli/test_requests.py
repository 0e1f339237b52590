"""What was typed, and what a video records, → scene, settings and output."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mocgen.cli.options import RunOptions
from mocgen.cli.request import choose_output, read_request
from mocgen.errors import ClipError, OutputError, UsageError
from mocgen.settings import Settings
from mocgen.storyboard import Scene, Shot

RECORD = {
    "version": "0.1.0",
    "command": "generate",
    "prompt": "a toy world",
    "shots": [{"caption": "a red star", "seconds": 2.0}, {"caption": "a blue disc", "seconds": None}],
    "settings": dataclasses.asdict(Settings(seed=11, size=(640, 640), top_k=3, causal=False)),
    "model": "embedded",
    "revision": "1",
}


def test_options_that_are_not_typed_keep_the_models_defaults() -> None:
    request = read_request(["a star"], RunOptions(seed=5))
    assert request.settings == Settings(seed=5)
    assert request.scene == Scene(shots=(Shot(caption="a star"),))


def test_every_typed_option_reaches_the_settings() -> None:
    options = RunOptions(
        seconds=2.0,
        size="640X320",
        fps=12.0,
        upscale=False,
        seed=1,
        steps=9,
        guidance=1.5,
        negative="fog",
        attention="window",
        top_k=2,
        causal=False,
        model="a/b",
        device="cpu",
        dtype="fp32",
    )
    assert read_request(["a star"], options).settings == Settings(
        seconds=2.0,
        size=(640, 320),
        fps=12.0,
        upscale=False,
        seed=1,
        steps=9,
        guidance=1.5,
        negative="fog",
        attention="window",
        top_k=2,
        causal=False,
        model="a/b",
        device="cpu",
        dtype="fp32",
    )


def test_without_a_seed_each_request_draws_its_own() -> None:
    seeds = {read_request(["a star"], RunOptions()).settings.seed for _ in range(8)}
    assert len(seeds) > 1


def test_a_storyboard_is_read(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("a star\na disc\n")
    request = read_request(None, RunOptions(storyboard=path))
    assert [shot.caption for shot in request.scene.shots] == ["a star", "a disc"]


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_repeat_takes_everything_from_the_video(make_video, suffix: str) -> None:
    request = read_request(None, RunOptions(), repeat=make_video(f"star.{suffix}", RECORD))
    assert request.settings == Settings(seed=11, size=(640, 640), top_k=3, causal=False)
    assert request.scene == Scene(
        prompt="a toy world", shots=(Shot(caption="a red star", seconds=2.0), Shot(caption="a blue disc"))
    )


def test_what_is_typed_wins_over_what_is_repeated(make_video) -> None:
    options = RunOptions(seed=4, causal=True, attention="dense")
    request = read_request(["a ring"], options, repeat=make_video("star.mp4", RECORD))
    assert request.settings == Settings(seed=4, size=(640, 640), top_k=3, attention="dense", causal=True)
    assert request.scene == Scene(shots=(Shot(caption="a ring"),))


def test_an_extension_is_repeated_with_what_its_clip_shows(make_video) -> None:
    clip = {"command": "extend", "clip": "a.mov", "clip_prompts": ["a star", "a disc"], "context_seconds": 3}
    video = make_video("longer.mp4", RECORD | clip)
    request = read_request(None, RunOptions(), repeat=video, extends=True)
    assert request.scene.clip_prompts == ("a star", "a disc")
    assert [shot.caption for shot in request.scene.shots] == ["a red star", "a blue disc"]
    assert (request.context_seconds, request.settings.seed) == (3, 11)
    typed = read_request(["a ring"], RunOptions(), clip_prompts=["a sea"], repeat=video, extends=True)
    assert typed.scene == Scene(shots=(Shot(caption="a ring"),), clip_prompts=("a sea",))
    with pytest.raises(UsageError, match="does not extend a clip"):
        read_request(None, RunOptions(), repeat=make_video("star.mp4", RECORD), extends=True)


@pytest.mark.parametrize(
    ("model", "again"),
    [
        ("owner/name", "owner/name@abc123"),
        ("owner/name@v1", "owner/name@v1"),
        ("wan2.1-t2v-1.3b", "wan2.1-t2v-1.3b@abc123"),
        ("embedded", "embedded"),
        ("gone", "gone"),
    ],
)
def test_a_hub_model_is_repeated_at_the_revision_that_was_used(make_video, model: str, again: str) -> None:
    settings = dataclasses.asdict(Settings(model=model))
    video = make_video("star.mp4", RECORD | {"settings": settings, "revision": "abc123"})
    assert read_request(None, RunOptions(), repeat=video).settings.model == again


@pytest.mark.parametrize(
    ("record", "kind", "named"),
    [
        (None, ClipError, "does not say how it was made"),
        (RECORD | {"command": "extend"}, UsageError, "extends another clip"),
        (RECORD | {"settings": {"seed": 1, "sharpness": 2}}, UsageError, "sharpness"),
        ({"version": "9", "command": "generate"}, UsageError, "mocgen 9"),
    ],
)
def test_a_video_that_cannot_be_repeated_says_why(make_video, record, kind, named: str) -> None:
    with pytest.raises(kind, match=named):
        read_request(None, RunOptions(), repeat=make_video("star.mp4", record))


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red star, in the desert!", "mocgen-a-red-star-in-the-desert-7.mp4"),
        ("../../etc/passwd", "mocgen-etc-passwd-7.mp4"),
        ("ein schöner Tag", "mocgen-ein-schöner-tag-7.mp4"),
        ("?!", "mocgen-video-7.mp4"),
        ("x" * 500, f"mocgen-{'x' * 40}-7.mp4"),
        (
            "one two three four five six seven eight nine",
            "mocgen-one-two-three-four-five-six-seven-eight-7.mp4",
        ),
    ],
)
def test_an_output_is_named_after_prompt_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    request = read_request([prompt], RunOptions(seed=7))
    assert choose_output(None, request, overwrite=False) == Path(name)


def test_a_name_of_ours_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = read_request(["a star"], RunOptions(seed=7))
    for name in ("mocgen-a-star-7.mp4", "mocgen-a-star-7-2.mp4"):
        assert choose_output(None, request, overwrite=True) == Path(name)
        (tmp_path / name).touch()
    assert choose_output(None, request, overwrite=True) == Path("mocgen-a-star-7-3.mp4")


def test_a_typed_name_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output = tmp_path / "star.mp4"
    output.touch()
    request = read_request(["a star"], RunOptions(seed=7))
    with pytest.raises(OutputError, match="--overwrite"):
        choose_output(output, request, overwrite=False)
    assert choose_output(output, request, overwrite=True) == output
