"""The user's own clip at the head of an output: same frames, size, times and sound, visually lossless."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from mocgen.errors import ClipError
from mocgen.video.audio import AudioTrack, audio_tracks
from mocgen.video.clip import Clip, clip_errors, open_clip
from mocgen.video.colour import ColourConverter, colour_of, is_rgb
from mocgen.video.output import OutputKind, output_errors
from mocgen.video.sink import Sink, Target
from mocgen.video.upright import quarter_turns, upright_rgb, upright_size

_FINEST_CLOCK = 10_000_000  # ticks per second that containers surely hold
OnFrames = Callable[[int], None]


def source_target(
    source: Path, *, part: Path, width: int, height: int, fps: Fraction, metadata: Mapping[str, str]
) -> Target:
    """A target that keeps what the source is: colours, chroma, pixel aspect, and a clock that has its times.

    Raises ClipError if the source cannot be read, ValueError if it is not shown at width × height.
    """
    with open_clip(source) as clip:
        frame = clip.first_frame()
        shown = upright_size(frame)
        if shown != (width, height):
            raise ValueError(f"{source} is shown at {shown[0]}x{shown[1]}, not at {width}x{height}")
        aspect = clip.video.sample_aspect_ratio
        return Target(
            part=part,
            width=width,
            height=height,
            fps=fps,
            time_base=_common_clock(clip.time_base, fps),
            metadata=metadata,
            colour=colour_of(frame),
            halved_chroma=_halves_chroma(frame),
            pixel_aspect=1 / aspect if aspect and quarter_turns(frame) % 2 else aspect or None,
            faithful=True,
        )


class SourceCopy:
    """Copies a clip into a sink; afterwards `end` is when the next frame is due, in seconds."""

    def __init__(self, source: Path, sink: Sink, target: Target) -> None:
        self._source = source
        self._sink = sink
        self._target = target
        self._converter = ColourConverter()
        self.frames = 0
        self.end = Fraction(0)

    def run(
        self, movie: OutputContainer | None, kind: OutputKind, output: Path, on_frames: OnFrames | None
    ) -> None:
        """Copy everything, sound too if the output is a movie. Raises ClipError and OutputError."""
        with open_clip(self._source) as clip:
            # a stream that begins before zero holds priming samples, which edit lists hide again
            start = max(Fraction(clip.container.start_time or 0, 1_000_000), Fraction(0))
            tracks = {} if movie is None else audio_tracks(clip.container, movie, kind, start=start)
            for packet in _packets(clip, tracks):
                if packet.stream is not clip.video:
                    with output_errors(output):
                        tracks[packet.stream.index].add(packet)
                    continue
                for frame in _decoded(clip, packet):
                    with output_errors(output):
                        self._add(frame, clip, start)
                    if on_frames is not None:
                        on_frames(self.frames)
            with output_errors(output):
                for track in tracks.values():
                    track.finish()
        if not self.frames:
            raise ClipError(f"{self._source}: not one frame can be decoded. Copy or download the clip again.")

    def _add(self, frame: VideoFrame, clip: Clip, start: Fraction) -> None:
        stamp = frame.pts if frame.pts is not None else frame.dts
        tick = frame.time_base or clip.time_base
        time = self.end if stamp is None else stamp * tick - start
        self.end = time + (frame.duration * tick if frame.duration else 1 / self._target.fps)
        self._sink.add(self._upright(frame), time)
        self.frames += 1

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        if not quarter_turns(frame):
            return frame
        # halved chroma cannot be turned as it is: it sits at the left of its pixels
        return VideoFrame.from_ndarray(upright_rgb(frame, self._converter), format="rgb24")


def _packets(clip: Clip, tracks: Mapping[int, AudioTrack]) -> Iterator[Packet]:
    with clip_errors(clip.path):
        yield from clip.container.demux([clip.video, *(clip.container.streams[index] for index in tracks)])


def _decoded(clip: Clip, packet: Packet) -> list[VideoFrame]:
    with clip_errors(clip.path):
        return packet.decode()


def _common_clock(source: Fraction, fps: Fraction) -> Fraction:
    """A tick of which the source's times and those at `fps` are multiples, if it is not absurdly fine."""
    ticks = math.lcm(source.denominator, fps.numerator)
    return Fraction(1, ticks) if ticks <= _FINEST_CLOCK else source


def _halves_chroma(frame: VideoFrame) -> bool:
    pixels = frame.format
    return not is_rgb(pixels) and (pixels.chroma_width(16), pixels.chroma_height(16)) == (8, 8)
