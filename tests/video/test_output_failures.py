"""Outputs that cannot be written are refused in one line, and whatever happens nothing half-written stays."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mocgen.errors import ClipError, MocgenError, OutputError, UsageError
from mocgen.video import OutputKind, VideoWriter, check_output, output_kind, probe, read_metadata
from mocgen.video.output import output_errors

KINDS = ["v.mp4", "v.webm", "v.gif", "v"]
FRAMES = np.zeros((4, 32, 32, 3), np.uint8)


def writer(path: Path | str, **kwargs) -> VideoWriter:
    """A small writer."""
    return VideoWriter(path, width=32, height=32, fps=Fraction(8), metadata={"seed": "1"}, **kwargs)


def refused(kind: type[MocgenError], path: Path | str, word: str, *, overwrite: bool = False) -> None:
    """Both the early check and the writer refuse the output in one line."""
    for attempt in (lambda: check_output(path, overwrite), lambda: writer(path, overwrite=overwrite)):
        with pytest.raises(kind, match=word) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["-", ".mp4", ".GIF", "a.mp4.", ""])
def test_names_that_name_no_video(outputs: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a video"):
        check_output(Path(name) if name in ("", "-") else outputs / name, False)


def test_a_device_is_no_output() -> None:
    with pytest.raises(OutputError, match="neither a file nor a folder"):
        check_output("/dev/null", True)


def test_a_gif_has_its_limit_of_frames_a_second(outputs: Path) -> None:
    with pytest.raises(UsageError, match="100 frames a second at most, not 240"):
        VideoWriter(outputs / "v.gif", width=32, height=32, fps=Fraction(240), metadata={})


def test_a_link_to_a_folder_is_replaced_without_a_trace(outputs: Path) -> None:
    (outputs / "real").mkdir()
    (outputs / "link").symlink_to("real")
    with writer(outputs / "link", overwrite=True) as video:
        video.write(FRAMES)
    assert sorted(path.name for path in outputs.iterdir()) == ["link", "real"]
    assert not (outputs / "link").is_symlink()
    assert not list((outputs / "real").iterdir())


def test_kinds(outputs: Path) -> None:
    assert [output_kind(outputs / name) for name in KINDS] == list(OutputKind)
    assert output_kind("pictures.v2/") is OutputKind.FOLDER
    assert output_kind(outputs / "V.MP4") is OutputKind.MP4


@pytest.mark.parametrize("name", ["v.avi", "v.mpg", "v.mp4.part", "v.v2"])
def test_unknown_suffix(outputs: Path, name: str) -> None:
    refused(UsageError, outputs / name, r"\.mp4, \.webm or \.gif")


@pytest.mark.parametrize("name", KINDS)
def test_existing_output(outputs: Path, name: str) -> None:
    with writer(outputs / name) as first:
        first.write(FRAMES)
    refused(OutputError, outputs / name, "--overwrite")
    with writer(outputs / name, overwrite=True) as second:
        second.write(FRAMES[:2])
    if name == "v":
        assert len(list((outputs / name).glob("*.png"))) == 2
    else:
        assert probe(outputs / name).frames == 2
    assert read_metadata(outputs / name) == {"seed": "1"}
    assert [entry.name for entry in outputs.iterdir()] == [name]


def test_a_folder_with_other_files_is_never_replaced(outputs: Path) -> None:
    (outputs / "thesis.txt").write_text("years of work")
    refused(OutputError, outputs, "thesis.txt", overwrite=True)
    assert (outputs / "thesis.txt").exists()


def test_missing_parent(outputs: Path) -> None:
    refused(OutputError, outputs / "none" / "v.mp4", "no folder")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody may write")
@pytest.mark.parametrize("name", KINDS)
def test_unwritable_folder(name: str) -> None:
    refused(OutputError, Path("/proc") / name, "cannot be written")


def test_name_that_is_too_long(outputs: Path) -> None:
    refused(OutputError, outputs / ("v" * 300 + ".mp4"), "too long")


@pytest.mark.parametrize("name", KINDS)
def test_output_that_appears_meanwhile_is_kept(outputs: Path, name: str) -> None:
    def be_overtaken() -> None:
        with writer(outputs / name) as late:
            late.write(FRAMES)
            (outputs / name).write_text("somebody else's")

    with pytest.raises(OutputError, match="meanwhile"):
        be_overtaken()
    assert (outputs / name).read_text() == "somebody else's"
    assert len(list(outputs.iterdir())) == 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("written", [0, 4, 200])
def test_nothing_stays_after_an_exception(
    outputs: Path, name: str, error: type[BaseException], written: int
) -> None:
    def fail() -> None:
        with writer(outputs / name) as stopped:
            stopped.attach(b"latents")
            stopped.write(np.zeros((written, 32, 32, 3), np.uint8))
            raise error

    with pytest.raises(error):
        fail()
    assert not list(outputs.iterdir())


@pytest.mark.parametrize("name", KINDS)
def test_nothing_stays_when_copying_is_interrupted(clips, outputs: Path, name: str) -> None:
    def interrupt(frames: int) -> None:
        if frames == 10:
            raise KeyboardInterrupt

    source = clips.make("a.mp4", size=(32, 32), audio="aac")
    with pytest.raises(KeyboardInterrupt), writer(outputs / name, source=source) as stopped:
        stopped.copy_source(interrupt)
    assert not list(outputs.iterdir())


@pytest.mark.parametrize("name", KINDS)
def test_existing_output_survives_a_failed_overwrite(outputs: Path, name: str) -> None:
    with writer(outputs / name) as first:
        first.write(FRAMES)

    def fail() -> None:
        with writer(outputs / name, overwrite=True) as second:
            second.write(FRAMES)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read_metadata(outputs / name) == {"seed": "1"}
    assert len(list(outputs.iterdir())) == 1


def test_bad_source_leaves_nothing(clips, outputs: Path) -> None:
    source = clips.make("a.mp4", size=(32, 32), frames=48, options={"movflags": "faststart"})
    data = bytearray(source.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 200 :] = b"\xff" * (len(data) - start - 200)
    source.write_bytes(bytes(data))
    with pytest.raises(ClipError) as caught, writer(outputs / "v.mp4", source=source) as stopped:
        stopped.copy_source()
    assert str(source) in str(caught.value)
    assert not list(outputs.iterdir())


WRITE_NOISE = """
import resource, sys
from fractions import Fraction
import numpy as np
from mocgen.errors import OutputError
from mocgen.video import VideoWriter
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
noise = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), dtype=np.uint8)
try:
    with VideoWriter(sys.argv[1], width=128, height=128, fps=Fraction(8), metadata={}) as writer:
        writer.attach(bytes(int(sys.argv[3])))
        writer.write(noise)
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "limit", "payload"),
    [*((name, 20_000, 0) for name in KINDS), ("v.mp4", 9_000_000, 10_000_000), ("v", 200_000, 300_000)],
)
def test_full_disk(outputs: Path, name: str, limit: int, payload: int) -> None:
    arguments = [sys.executable, "-c", WRITE_NOISE, str(outputs / name), str(limit), str(payload)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        f"{outputs / name}: the disk is full. Free some space, or choose another place with -o."
    ]
    assert result.stderr == ""
    assert not list(outputs.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_code_for_a_full_disk(outputs: Path, code: int) -> None:
    with pytest.raises(OutputError, match="disk is full"), output_errors(outputs / "v.mp4"):
        raise OSError(code, "as the system says it")


WRITE_FOR_EVER = """
import sys
from fractions import Fraction
import numpy as np
from mocgen.video import VideoWriter
noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
with VideoWriter(sys.argv[1], width=64, height=64, fps=Fraction(8), metadata={}) as writer:
    while True:
        writer.write(noise)
        print(writer.frames_written, flush=True)
"""


@pytest.mark.parametrize("name", KINDS)
def test_interrupt_from_the_keyboard(outputs: Path, name: str) -> None:
    arguments = [sys.executable, "-c", WRITE_FOR_EVER, str(outputs / name)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "60\n"
        assert len(list(outputs.iterdir())) >= 1
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode != 0
    assert not list(outputs.iterdir())
