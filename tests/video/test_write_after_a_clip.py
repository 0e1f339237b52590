"""VideoWriter with a source: the user's clip comes first, unchanged, and the continuation fits it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from mocgen.video import VideoWriter, probe, read_frames, read_metadata


def check_picture(source: Path, output: Path, psnr, *, frames: int = 8) -> tuple[float, float]:
    """Count, size, rate and loss of the user's own frames, brightness at the seam; returns the PSNRs."""
    before, after = probe(source), probe(output)
    assert (after.width, after.height, after.rotation) == (before.width, before.height, 0)
    assert after.frames == before.frames + frames
    written, values, theirs = read_frames(output), [], np.empty(0)
    for theirs in read_frames(source):
        values.append(psnr(next(written), theirs))
    assert len(values) == before.frames
    assert min(values) >= 40
    assert max(abs(float(ours.mean()) - float(theirs.mean())) for ours in written) <= 1
    return min(values), float(np.mean(values))


def frame_times(path: Path) -> list[Fraction]:
    """Presentation times of all frames in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def test_real_clips(extend, real_clip: Path, outputs: Path, psnr) -> None:
    output = outputs / "out.mp4"
    told = extend(real_clip, output)
    _, mean = check_picture(real_clip, output, psnr)
    assert mean >= 44
    before, after = probe(real_clip), probe(output)
    assert after.fps == before.fps
    assert told == list(range(1, before.frames + 1))
    assert frame_times(output)[: before.frames] == frame_times(real_clip)
    assert after.has_audio == before.has_audio
    assert read_metadata(output) == {"seed": "1"}
    assert list(outputs.iterdir()) == [output]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_variable_rate_keeps_its_times(extend, clips, outputs: Path, psnr, name: str) -> None:
    ticks = [0, 40, 80, 120, 320, 360, 400, 600, 640, 680]
    source = clips.make(name, frames=10, ticks=ticks, time_base=Fraction(1, 1000), fps=Fraction(25))
    extend(source, outputs / "out.mp4", fps=Fraction(25))
    check_picture(source, outputs / "out.mp4", psnr)
    times = frame_times(outputs / "out.mp4")
    assert [round(1000 * time) for time in times[:10]] == ticks
    steps = [float(after - before) for before, after in pairwise(times[10:])]
    assert steps == pytest.approx([0.04] * 7, abs=1e-3)
    assert 0.02 < times[10] - times[9] < 0.3


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_rotation_is_baked_in(extend, clips, outputs: Path, psnr, rotation: int, suffix: str) -> None:
    source = clips.make("r.mp4", rotation=rotation)
    extend(source, outputs / f"out{suffix}")
    check_picture(source, outputs / f"out{suffix}", psnr)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("sample_range", [1, 2])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_matrix_and_range_are_kept(
    extend, clips, outputs: Path, psnr, matrix: int, sample_range: int, suffix: str
) -> None:
    source, output = clips.make("c.mp4", colour=(matrix, sample_range)), outputs / f"out{suffix}"
    extend(source, output)
    check_picture(source, output, psnr)
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
        assert frame.color_range == sample_range
        assert frame.colorspace in ({5, 6} if matrix == 5 else {matrix})


def test_untagged_colours_stay_untagged(extend, clips, outputs: Path, psnr) -> None:
    source = clips.make("u.mp4")
    extend(source, outputs / "out.mp4")
    check_picture(source, outputs / "out.mp4", psnr)
    with av.open(str(outputs / "out.mp4")) as container:
        assert next(container.decode(video=0)).colorspace == 2


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "size"),
    [
        ("a.mp4", "libx264", "yuv420p10le", (96, 64)),
        ("a.mp4", "libx265", "yuv420p10le", (96, 64)),
        ("a.mp4", "libx264", "yuv444p", (97, 63)),
        ("a.mp4", "libx264", "yuv422p", (96, 64)),
        ("a.webm", "libvpx-vp9", "yuv420p", (97, 63)),
        ("a.gif", "gif", "rgb8", (96, 64)),
        ("a.mkv", "ffv1", "bgr0", (97, 63)),
        ("a.avi", "mpeg4", "yuv420p", (96, 64)),
        ("a.mov", "prores_ks", "yuv422p10le", (96, 64)),
        ("a.mov", "mjpeg", "yuvj420p", (96, 64)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_other_pictures(
    extend,
    clips,
    outputs: Path,
    psnr,
    name: str,
    codec: str,
    pixel_format: str,
    size: tuple[int, int],
    suffix: str,
) -> None:
    fps = Fraction(25)
    source = clips.make(name, codec=codec, pixel_format=pixel_format, size=size, fps=fps)
    extend(source, outputs / f"out{suffix}", fps=fps)
    check_picture(source, outputs / f"out{suffix}", psnr)


def test_clock_that_does_not_begin_at_zero(extend, clips, outputs: Path, psnr) -> None:
    source = clips.make("a.ts", audio="aac", frames=48)  # transport streams begin at 1.4 seconds
    extend(source, outputs / "out.mp4")
    check_picture(source, outputs / "out.mp4", psnr)
    before, after = frame_times(source), frame_times(outputs / "out.mp4")
    assert after[0] < 0.1
    assert [t - after[0] for t in after[:48]] == [t - before[0] for t in before]


def test_pixel_aspect_is_kept(extend, clips, outputs: Path) -> None:
    whole = clips.make("a.mp4")
    source = clips.folder / "wide.mp4"
    with av.open(str(whole)) as old, av.open(str(source), "w") as new:
        stream = new.add_stream("libx264", rate=24, width=96, height=64, pix_fmt="yuv420p")
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        for frame in old.decode(video=0):
            frame.pict_type = 0
            new.mux(stream.encode(frame))
        new.mux(stream.encode(None))
    extend(source, outputs / "out.mp4")
    with av.open(str(outputs / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_noise_keeps_the_bar(extend, outputs: Path, clips, psnr) -> None:
    source = clips.folder / "noise.mp4"
    generator = np.random.default_rng(0)
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=96, height=96, pix_fmt="yuv420p")
        stream.options = {"crf": "5"}
        for _ in range(12):
            noise = generator.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        container.mux(stream.encode(None))
    for suffix in (".mp4", ".webm"):
        extend(source, outputs / f"out{suffix}")
        check_picture(source, outputs / f"out{suffix}", psnr)


def test_folder_and_gif(extend, clips, outputs: Path) -> None:
    source = clips.make("a.mp4", frames=12, rotation=90)
    extend(source, outputs / "out", frames=2)
    for index, frame in enumerate(read_frames(source), start=1):
        picture = next(read_frames(outputs / "out" / f"frame_{index:05d}.png"))
        assert np.abs(picture.astype(int) - frame).mean() < 1
    extend(source, outputs / "out.gif", frames=2)
    info = probe(outputs / "out.gif")
    assert (info.width, info.height, info.frames) == (64, 96, 14)


def test_the_source_is_copied_without_asking(clips, outputs: Path) -> None:
    source = clips.make("a.mp4", frames=12)
    with VideoWriter(
        outputs / "o.mp4", width=96, height=64, fps=Fraction(24), metadata={}, source=source
    ) as writer:
        writer.write(np.zeros((2, 64, 96, 3), np.uint8))
    assert probe(outputs / "o.mp4").frames == 14


def test_a_clip_may_be_replaced_by_its_extension(clips) -> None:
    source = clips.make("a.mp4", frames=12)
    with VideoWriter(
        source, width=96, height=64, fps=Fraction(24), metadata={}, source=source, overwrite=True
    ) as writer:
        writer.write(np.zeros((2, 64, 96, 3), np.uint8))
    assert probe(source).frames == 14
    assert list(clips.folder.iterdir()) == [source]


def test_a_source_of_another_size_is_refused(clips, outputs: Path) -> None:
    with pytest.raises(ValueError, match="96x64"):
        VideoWriter(
            outputs / "o.mp4", width=64, height=96, fps=Fraction(24), metadata={}, source=clips.make("a.mp4")
        )
    assert not list(outputs.iterdir())
