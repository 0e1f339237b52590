"""The sound of the user's clip: packets copied where the new container allows it, else encoded anew."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Protocol

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from mocgen.video.output import OutputKind

# what ordinary players accept in each container
_COPIED = {
    OutputKind.MP4: {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
    OutputKind.WEBM: {"opus", "vorbis"},
}
_BITS_PER_CHANNEL = 96_000  # per second
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}  # by channels
_OPUS_RATE = 48_000  # samples per second; Opus knows few rates


class AudioTrack(Protocol):
    """One audio stream on its way into the output."""

    def add(self, packet: Packet[AudioStream]) -> None:
        """Take one packet of the source."""

    def finish(self) -> None:
        """Nothing follows in this stream."""


def audio_tracks(
    source: InputContainer, output: OutputContainer, kind: OutputKind, *, start: Fraction
) -> dict[int, AudioTrack]:
    """A track for each audio stream of the source that can be decoded, by stream index.

    start: seconds on the source's clock that become time 0.
    """
    tracks: dict[int, AudioTrack] = {}
    for stream in source.streams.audio:
        if stream.codec_context is None or not stream.codec_context.sample_rate:
            continue
        if stream.codec_context.codec.canonical_name in _COPIED[kind]:
            tracks[stream.index] = CopiedTrack(stream, output, start=start)
        else:
            tracks[stream.index] = EncodedTrack(stream, output, kind, start=start)
    return tracks


class CopiedTrack:
    """The source's packets as they are, moved in time."""

    def __init__(self, source: AudioStream, output: OutputContainer, *, start: Fraction) -> None:
        self._output = output
        self._start = start
        self._stream = output.add_stream_from_template(source)

    def add(self, packet: Packet[AudioStream]) -> None:
        """Mux one packet."""
        if packet.dts is None:
            return  # the empty packet at the end
        shift = round(self._start / packet.time_base)
        packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
        packet.dts = packet.dts - shift
        packet.stream = self._stream
        self._output.mux_one(packet)

    def finish(self) -> None:
        """Packets are not held back."""


class EncodedTrack:
    """The source decoded and encoded as AAC (MP4) or Opus (WebM)."""

    def __init__(
        self, source: AudioStream, output: OutputContainer, kind: OutputKind, *, start: Fraction
    ) -> None:
        self._output = output
        self._start = start
        channels = source.codec_context.channels
        layout = _LAYOUTS.get(channels, "stereo")
        opus = kind is OutputKind.WEBM
        self._stream = output.add_stream(
            "libopus" if opus else "aac",
            rate=_OPUS_RATE if opus else source.codec_context.sample_rate,
            layout=layout,
            bit_rate=_BITS_PER_CHANNEL * (channels if channels in _LAYOUTS else 2),
        )

    def add(self, packet: Packet[AudioStream]) -> None:
        """Decode one packet and encode its samples."""
        frames: list[AudioFrame] = []
        with suppress(av.InvalidDataError):  # a damaged packet is a short silence, no reason to stop
            frames = packet.decode()
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._start / frame.time_base)
            self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Flush the encoder."""
        self._output.mux(self._stream.encode(None))
