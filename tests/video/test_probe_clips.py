"""probe: exact size, rate, count and length of ordinary clips of many kinds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from mocgen.video import probe


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts"])
def test_constant_rate(clips, name: str) -> None:
    info = probe(clips.make(name, size=(98, 66), frames=31, fps=Fraction(30000, 1001)))
    assert (info.width, info.height, info.frames) == (98, 66, 31)
    assert info.fps == Fraction(30000, 1001)
    assert info.seconds == pytest.approx(31 * 1001 / 30000, abs=1e-3)
    assert (info.codec, info.variable_rate, info.rotation, info.has_audio) == ("h264", False, 0, False)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_variable_rate(clips, name: str) -> None:
    ticks = [0, 40, 80, 120, 320, 360, 400, 600, 640, 680]
    path = clips.make(name, frames=10, ticks=ticks, time_base=Fraction(1, 1000), fps=Fraction(25))
    info = probe(path)
    assert info.variable_rate
    assert info.frames == 10
    assert info.seconds == pytest.approx(0.72, abs=0.01)
    assert float(info.fps) == pytest.approx(10 / 0.72, rel=0.02)


@pytest.mark.parametrize(("rotation", "size"), [(90, (64, 96)), (180, (96, 64)), (-90, (64, 96))])
def test_rotated_clips_report_the_displayed_size(clips, rotation: int, size: tuple[int, int]) -> None:
    info = probe(clips.make("r.mp4", rotation=rotation))
    assert (info.width, info.height) == size
    assert info.rotation == rotation % 360


def test_sound_and_tags(clips) -> None:
    info = probe(clips.make("s.mp4", audio="aac"))
    assert info.has_audio
    assert "encoder" in info.metadata


def test_fragmented_mp4_is_counted(clips) -> None:
    path = clips.make("f.mp4", frames=50, options={"movflags": "frag_keyframe+empty_moov"})
    assert probe(path).frames == 50


def test_frames_cut_away_by_an_edit_list_do_not_count(clips, tmp_path: Path) -> None:
    whole, cut = clips.make("whole.mp4", frames=30), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(Fraction(1, 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                target.mux(packet)
    with av.open(str(cut)) as container:
        shown = sum(1 for _ in container.decode(video=0))
    assert probe(cut).frames == shown


def test_real_clips(real_clip: Path) -> None:
    expected = {
        "carphone_pristine.mp4": (176, 144, 120, Fraction(30000, 1001), False),
        "bikes.mp4": (640, 272, 250, Fraction(25), False),
        "bigbuckbunny.mp4": (1280, 720, 132, Fraction(25), True),
    }
    info = probe(real_clip)
    assert (info.width, info.height, info.frames, info.fps, info.has_audio) == expected[real_clip.name]
