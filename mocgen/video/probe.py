"""What a clip is: size, rate, length, exact number of frames; found without decoding more than one frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

from mocgen.video.clip import Clip, clip_errors, is_mp4, open_clip, truncated
from mocgen.video.upright import quarter_turns, upright_size

_STATING_LENGTH = {"matroska", "avi"}  # containers whose header says how long they are; others estimate


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What `probe` finds in a clip."""

    path: Path
    width: int  # pixels as displayed, after rotation; the pixels' own aspect is not applied
    height: int
    fps: Fraction  # frames per second, the average when the rate varies
    frames: int  # exact
    seconds: float
    rotation: int  # degrees counter-clockwise by which players turn the stored picture: 0, 90, 180 or 270
    has_audio: bool
    codec: str
    pixel_format: str
    variable_rate: bool
    metadata: dict[str, str]  # tags of the container


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When a clip's frames are shown, in seconds on the stream's own clock."""

    frames: int
    start: Fraction
    end: Fraction
    fps: Fraction
    variable: bool


def probe(path: Path) -> VideoInfo:
    """Look into a clip.

    Raises ClipError, one clear line, if it is missing, a directory, empty, not a video, truncated, or has
    sound only.
    """
    timing = measure(path)
    with open_clip(path) as clip:
        frame = clip.first_frame()
        width, height = upright_size(frame)
        return VideoInfo(
            path=Path(path),
            width=width,
            height=height,
            fps=timing.fps,
            frames=timing.frames,
            seconds=float(timing.end - timing.start),
            rotation=90 * quarter_turns(frame),
            has_audio=bool(clip.container.streams.audio),
            codec=clip.video.codec_context.codec.canonical_name,
            pixel_format=frame.format.name,
            variable_rate=timing.variable,
            metadata=dict(clip.container.metadata),
        )


def measure(path: Path) -> Timing:
    """Count and time the frames from the index (MP4) or from the packets, without decoding.

    Raises ClipError; a file that ends before its header says so counts as truncated.
    """
    with open_clip(path) as clip:
        ticks = _indexed_ticks(clip)
        if ticks:
            timing = _timing(clip, ticks)
            if not timing.variable:
                return timing
        return _timing(clip, _demuxed_ticks(clip))


def _indexed_ticks(clip: Clip) -> list[int]:
    entries = clip.video.index_entries
    if not is_mp4(clip.container) or not clip.video.frames or len(entries) < clip.video.frames:
        return []  # fragmented files have no whole index
    first = clip.video.start_time or 0
    # decoding times, moved to where showing starts: the same steps, if these are constant
    decoded = sorted(entry.timestamp for entry in entries if not entry.is_discard)
    return [first + tick - decoded[0] for tick in decoded]


def _demuxed_ticks(clip: Clip) -> list[int]:
    ticks: list[int] = []
    last_second = Fraction(0)
    with clip_errors(clip.path):
        for packet in clip.container.demux():
            tick = packet.pts if packet.pts is not None else packet.dts
            if tick is None or packet.stream.time_base is None:
                continue
            last_second = max(last_second, (tick + (packet.duration or 0)) * packet.stream.time_base)
            if packet.stream is clip.video and not packet.is_discard:
                ticks.append(tick)
    _check_promised_length(clip, last_second)
    if not ticks:
        raise truncated(clip.path, "it holds no frames")
    return sorted(ticks)


def _check_promised_length(clip: Clip, last_second: Fraction) -> None:
    if not _STATING_LENGTH & set(clip.container.format.name.split(",")):
        return
    counted = clip.video.frames * clip.time_base  # AVI counts the ticks without a new picture too
    promised, found = max(float(counted), (clip.container.duration or 0) / 1e6), float(last_second)
    if found < promised - max(0.5, 0.03 * promised):
        raise truncated(clip.path, f"it ends after {found:.1f} of {promised:.1f} seconds")


def _timing(clip: Clip, ticks: list[int]) -> Timing:
    steps = [Fraction(after - before) for before, after in pairwise(ticks)]
    nominal = clip.video.average_rate or clip.video.guessed_rate or Fraction(25)
    usual = median(steps) if steps else 1 / (nominal * clip.time_base)
    rounding = max(usual / 10, min(Fraction(1), usual / 3))  # clocks of containers are coarse
    variable = any(abs(step - usual) > rounding for step in steps)
    start = ticks[0] * clip.time_base
    span = ticks[-1] - ticks[0] + usual
    fps = (len(ticks) / (span * clip.time_base)).limit_denominator(1001)
    if not variable and abs(nominal - fps) < fps / 100:
        fps = nominal
        span = len(ticks) / (fps * clip.time_base)
    return Timing(
        frames=len(ticks), start=start, end=start + span * clip.time_base, fps=fps, variable=variable
    )
