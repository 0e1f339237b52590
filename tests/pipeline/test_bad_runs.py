"""Bad input to whole runs: one line that says what is wrong, an exit code, and nothing written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
STAR = "a red star spins in the desert"


def names() -> list[str]:
    """Everything in the working folder, hidden files included."""
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.fixture
def bad_clips(make_clip) -> Callable[[str], str]:
    """Makes a clip that cannot be extended."""

    def make(kind: str) -> str:
        if kind == "sound.mp4":
            make_clip(kind, sound=True, picture=False)
        elif kind == "folder.mp4":
            Path(kind).mkdir()
        elif kind == "damaged.mp4":
            path = make_clip(kind, frames=48)
            data = bytearray(path.read_bytes())
            start = data.index(b"mdat") + 4
            data[start : start + 6000] = b"\xff" * 6000
            path.write_bytes(bytes(data))
        elif kind == "cut.mp4":
            path = make_clip(kind)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif kind == "text.mp4":
            Path(kind).write_text("not a video\n" * 50)
        elif kind == "empty.mp4":
            Path(kind).touch()
        return kind

    return make


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("none.mp4", "no such file"),
        ("folder.mp4", "is a directory"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "is not a video"),
        ("cut.mp4", "truncated"),
        ("sound.mp4", "sound but no picture"),
        ("damaged.mp4", "damaged.mp4"),
    ],
)
@pytest.mark.parametrize("command", ["extend", "inspect-routing"])
def test_bad_clips(run_mocgen, bad_clips, tiny_model: str, command: str, kind: str, named: str) -> None:
    clip = bad_clips(kind)
    before = names()
    words = ["extend", clip, STAR, "-o", "out.mp4"]
    if command == "inspect-routing":
        words = ["inspect-routing", "--clip", clip, STAR, "--out", "report"]
    outcome = run_mocgen(*words, "--model", tiny_model, "--format", "json")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert kind in outcome.err
    assert named in outcome.err
    assert names() == before


@pytest.mark.parametrize("output", ["/proc/star.mp4", "file/star.mp4", "none/star.mp4", "folder"])
def test_outputs_that_cannot_be_written(run_mocgen, tiny_model: str, output: str) -> None:
    Path("file").write_text("a file, not a folder")
    Path("folder").mkdir()
    Path("folder/thesis.txt").write_text("years of work")
    before = names()
    outcome = run_mocgen("generate", STAR, "-o", output, "--overwrite", "--model", tiny_model)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert output in outcome.err
    assert names() == before


@pytest.mark.parametrize("out", ["/proc/report", "file/report", "file"])
def test_reports_that_cannot_be_written(run_mocgen, tiny_model: str, out: str) -> None:
    Path("file").write_text("a file, not a folder")
    outcome = run_mocgen("inspect-routing", STAR, "--out", out, "--model", tiny_model, "--no-upscale")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert out in outcome.err
    assert names() == ["file"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[shots]]\ncaption = "a star\n', "story.toml, line 2"),
        ('shots = ["a star", ""]\n', "shot 2: the caption is empty"),
        ("shots = []\n", "no shots"),
        ('shots = [{caption = "a star", seconds = 100}]\n', "a shot of 100 seconds cannot be made"),
    ],
)
def test_bad_storyboards(run_mocgen, tiny_model: str, text: str, named: str) -> None:
    Path("story.toml").write_text(text)
    outcome = run_mocgen("generate", "--storyboard", "story.toml", "--model", tiny_model, "-o", "v.mp4")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert named in outcome.err
    assert names() == ["story.toml"]


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("nonsense", "unknown model: nonsense"),
        ("./none", "unknown model: ./none"),
        ("/none/model", "unknown model: /none/model"),
        ("a/b/c", "unknown model: a/b/c"),
        ("file", "unknown model: file"),
        (".", "holds no config.json"),
        ("x" * 300, "x" * 300),
        ("a\nb", "unknown model"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "extend"])
def test_unknown_models(run_mocgen, make_clip, command: str, model: str, named: str) -> None:
    Path("file").write_text("a file, not a folder")
    make_clip("clip.mp4")
    before = names()
    clip = ["clip.mp4"] if command == "extend" else []
    outcome = run_mocgen(command, *clip, STAR, "--model", model, "-o", "v.mp4")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert named in outcome.err
    assert names() == before


@pytest.mark.skipif("sys.platform != 'linux'", reason="limits are set by a Linux call")
@pytest.mark.parametrize(("words", "name"), [(["generate"], "v.mp4"), (["extend", "clip.mp4"], "v.webm")])
def test_no_room_for_the_video(
    start_mocgen, make_clip, tiny_model: str, tmp_path: Path, words: list[str], name: str
) -> None:
    make_clip("clip.mp4")
    process = start_mocgen(*words, STAR, "-o", name, "--model", tiny_model, "--seed", "1")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (5000, 5000))
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"mocgen: error: {name}: the disk is full. Free some space, or choose another place with -o\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_a_disk_that_is_really_full(tmp_path: Path, tiny_model: str) -> None:
    script = """
    mount -t tmpfs -o size=48k tmpfs "$1" 2>/dev/null || exit 77
    cd "$1"; "$2" -m mocgen generate "a red star" -o v.mp4 --model "$3" --seed 1
    code=$?; ls -A; exit $code
    """
    result = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", script, "sh", str(tmp_path), sys.executable, tiny_model],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("a process may not mount a small disk here")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("mocgen: error: v.mp4: the disk is full")
    assert result.stderr.count("\n") == 1
