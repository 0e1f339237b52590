"""The sound of an extended clip: packets copied where the container allows it, else encoded anew."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest


def sound(path: Path) -> list[bytes]:
    """The bytes of all audio packets."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def sound_seconds(path: Path) -> float:
    """How long the decoded sound is."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.sample_rate


@pytest.mark.parametrize("real_clip", ["bigbuckbunny.mp4"], indirect=True)
def test_sound_of_a_real_clip(extend, real_clip: Path, outputs: Path) -> None:
    output = outputs / "out.mp4"
    extend(real_clip, output)
    assert sound(output) == sound(real_clip)


@pytest.mark.parametrize(
    ("name", "codec", "suffix"),
    [
        ("a.mp4", "aac", ".mp4"),
        ("a.ts", "aac", ".mp4"),
        ("a.mkv", "libmp3lame", ".mp4"),
        ("a.mkv", "libopus", ".mp4"),
        ("a.mkv", "libopus", ".webm"),
        ("a.mkv", "ac3", ".mp4"),
    ],
)
def test_sound_is_copied(extend, clips, outputs: Path, name: str, codec: str, suffix: str) -> None:
    source = clips.make(name, audio=codec, frames=48)
    output = outputs / f"out{suffix}"
    extend(source, output)
    assert sound_seconds(output) == pytest.approx(sound_seconds(source), abs=0.05)
    if name != "a.ts":  # there each packet carries a header of its own
        assert sound(output) == sound(source)


@pytest.mark.parametrize(
    ("name", "codec", "suffix"),
    [
        ("a.mov", "pcm_s16le", ".mp4"),
        ("a.mkv", "pcm_s24le", ".mp4"),
        ("a.mp4", "aac", ".webm"),
        ("a.mkv", "mp2", ".mp4"),
    ],
)
def test_other_sound_is_encoded_anew(
    extend, clips, outputs: Path, name: str, codec: str, suffix: str
) -> None:
    source = clips.make(name, audio=codec, frames=48)
    output = outputs / f"out{suffix}"
    extend(source, output)
    assert sound_seconds(output) == pytest.approx(sound_seconds(source), abs=0.08)
    with av.open(str(output)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.codec.canonical_name == ("opus" if suffix == ".webm" else "aac")
        loud = [abs(f.to_ndarray().astype(float)).max() for f in container.decode(stream)]
        assert np.median(loud) == pytest.approx(8000 / 32768, rel=0.1)
