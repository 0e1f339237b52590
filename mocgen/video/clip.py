"""An open input clip; whatever is wrong with the file becomes one clear ClipError."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mocgen.errors import ClipError
from mocgen.video.mp4box import top_level_boxes

_NOT_CLIPS = {"tty", "concat", "hls", "dash"}  # text shown as a video, and lists of other files


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An open container and the stream of it that is the picture."""

    path: Path
    container: InputContainer
    video: VideoStream
    time_base: Fraction  # seconds per tick of the video stream

    def frames(self) -> Generator[VideoFrame]:
        """Decoded frames in display order from where the container stands.

        Raises ClipError when the data cannot be decoded.
        """
        with clip_errors(self.path):
            yield from self.container.decode(self.video)

    def first_frame(self) -> VideoFrame:
        """The first frame from where the container stands; raises ClipError if there is none."""
        with closing(self.frames()) as frames:  # else what is raised meanwhile, as by ctrl-C, is lost
            for frame in frames:
                return frame
        raise truncated(self.path, "not one frame can be decoded")


@contextmanager
def open_clip(path: Path) -> Iterator[Clip]:
    """Open a clip for reading; raises ClipError if it is no readable video file."""
    path = Path(path)
    _check_file(path)
    with clip_errors(path):
        # "file:" and the protocol list keep a playlist posing as a clip away from the network
        container = av.open(
            f"file:{path}", "r", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    with container:
        video, time_base = _picture_stream(path, container)
        clip = Clip(path=path, container=container, video=video, time_base=time_base)
        _check_index(clip)
        yield clip


@contextmanager
def clip_errors(path: Path) -> Iterator[None]:
    """Turn what libav and the system raise while reading `path` into a ClipError."""
    try:
        yield
    except PermissionError as error:
        raise ClipError(f"{path}: may not be read. Check the permissions of the file.") from error
    except (av.FFmpegError, OSError) as error:
        if _is_cut_mp4(path):
            raise truncated(path, "the index that players need is missing") from error
        raise ClipError(
            f"{path}: is not a video that can be read ({_reason(error)}). "
            "Give a video file such as .mp4 or .webm."
        ) from error


def truncated(path: Path, detail: str) -> ClipError:
    """The error for a file that ends too early."""
    return ClipError(f"{path}: is truncated or damaged ({detail}). Copy or download the clip again.")


def _check_file(path: Path) -> None:
    if os.path.isdir(path):
        raise ClipError(f"{path}: is a directory. Give one video file.")
    if not os.path.exists(path):
        raise ClipError(f"{path}: no such file. Check the path of the clip.")
    if path.is_file() and path.stat().st_size == 0:
        raise ClipError(f"{path}: is empty (0 bytes). Copy or download the clip again.")


def _picture_stream(path: Path, container: InputContainer) -> tuple[VideoStream, Fraction]:
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures and container.streams.audio:
        raise ClipError(f"{path}: has sound but no picture. Give a clip with a video stream.")
    if not pictures or _NOT_CLIPS & set(container.format.name.split(",")):
        raise ClipError(f"{path}: is not a video. Give a video file such as .mp4 or .webm.")
    video = pictures[0]
    if video.codec_context is None or video.time_base is None:
        raise ClipError(f"{path}: its video codec is not supported. Convert the clip to H.264 first.")
    video.thread_type = "AUTO"
    return video, video.time_base


def _check_index(clip: Clip) -> None:
    if not is_mp4(clip.container):
        return
    size = clip.path.stat().st_size
    if any(entry.pos + entry.size > size for entry in clip.video.index_entries):
        raise truncated(clip.path, "frames are missing at its end")


def is_mp4(container: InputContainer) -> bool:
    """Whether the container is of the MP4 family (.mp4, .mov, .m4v, .3gp)."""
    return "mp4" in container.format.name.split(",")


def _is_cut_mp4(path: Path) -> bool:
    try:
        kinds = [box.kind for box in top_level_boxes(path)]
    except OSError:
        return False
    return bool(kinds) and kinds[0] == b"ftyp" and b"moov" not in kinds and b"moof" not in kinds


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip().rstrip(".").lower()
