"""What came before: the clip that a run extends, as clean shots for the context memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mocgen.errors import ClipError
from mocgen.settings import Settings
from mocgen.video import VideoInfo, read_attachment
from mocgen.video_model import Size, VideoModel

METADATA_KEY = "mocgen"


@dataclass(frozen=True, kw_only=True)
class PastShot:
    """A finished shot: its place in the scene, caption, and clean latents (1, T, C, h, w)."""

    index: int
    caption: str
    latents: Tensor


@dataclass(frozen=True, kw_only=True)
class History:
    """The shots that come before a run's own, and the global prompt that they were made under."""

    shots: tuple[PastShot, ...] = ()
    prompt: str = ""

    @property
    def next_index(self) -> int:
        """Place in the scene of the shot that comes next."""
        return self.shots[-1].index + 1 if self.shots else 0


def pack_history(shots: Sequence[PastShot], prompt: str, model: VideoModel) -> bytes:
    """Shots as the bytes of a safetensors file, to be stored with a video."""
    words = {
        "revision": model.revision,
        "prompt": prompt,
        "captions": [shot.caption for shot in shots],
        "indices": [shot.index for shot in shots],
    }
    tensors = {f"latents.{number}": shot.latents.cpu().contiguous() for number, shot in enumerate(shots)}
    return save(tensors, {METADATA_KEY: json.dumps(words)})  # one key: their order in the file is random


def read_history(
    clip: VideoInfo, model: VideoModel, *, seconds: float | None, size: Size | None = None
) -> History:
    """The last `seconds` of a clip as shots.

    Latents that were stored with the clip are taken as they are if this very model made them; otherwise
    the pixels are encoded, at a picture size of the model (None: its own).

    Raises ClipError if the clip cannot be decoded.
    """
    limit = model.context_seconds if seconds is None else seconds
    payload = read_attachment(clip.path)
    stored = _unpack(clip, payload, model) if payload else None
    if stored is not None:
        defaults = model.defaults
        keep = max(1, round(limit * defaults.fps / defaults.frames))
        return History(shots=stored.shots[-keep:], prompt=stored.prompt)
    pieces = model.encode_clip(clip, seconds=limit, size=size or model.sizes(Settings(), None)[0])
    return History(
        shots=tuple(PastShot(index=i, caption="", latents=piece) for i, piece in enumerate(pieces))
    )


def _unpack(clip: VideoInfo, payload: bytes, model: VideoModel) -> History | None:
    """Undo `pack_history`; None if another model made the latents."""
    try:
        tensors, words = load(payload), _metadata(payload)
        if words["revision"] != model.revision:
            return None
        captions, indices = words["captions"], words["indices"]
        shots = tuple(
            PastShot(index=index, caption=caption, latents=tensors[f"latents.{number}"])
            for number, (index, caption) in enumerate(zip(indices, captions, strict=True))
        )
        for shot in shots:
            model.check_latents(shot.latents)
            if not isinstance(shot.index, int) or not isinstance(shot.caption, str):
                raise ValueError("their captions or places are not what they should be")
        return History(shots=shots, prompt=words["prompt"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ClipError(
            f"{clip.path}: the latents stored with the clip are damaged ({error}); "
            "convert the clip with another program to drop them"
        ) from None


def _metadata(payload: bytes) -> dict[str, Any]:
    """The words in the header of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(payload[:8], "little")
    return dict(json.loads(json.loads(payload[8 : 8 + length])["__metadata__"][METADATA_KEY]))
