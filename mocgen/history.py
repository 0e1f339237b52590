"""What came before: the clip that a run extends, as clean shots for the context memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mocgen.errors import ClipError, UsageError
from mocgen.settings import RememberedShot, Settings
from mocgen.video import VideoInfo, read_attachment
from mocgen.video_model import Size, VideoModel

METADATA_KEY = "mocgen"


@dataclass(frozen=True, kw_only=True)
class PastShot:
    """A finished shot, or a piece of a clip's: place in the scene, caption, clean latents (1, T, C, h, w).

    begin: the second of the video at which the shot begins; pieces of one shot have it in common.
    """

    index: int
    caption: str
    latents: Tensor
    begin: float


@dataclass(frozen=True, kw_only=True)
class History:
    """The shots that come before a run's own, and the global prompt that they were made under."""

    shots: tuple[PastShot, ...] = ()
    prompt: str = ""
    seconds: float = 0.0  # of the video that they are of

    @property
    def next_index(self) -> int:
        """Place in the scene of the shot that comes next."""
        return self.shots[-1].index + 1 if self.shots else 0

    @property
    def remembered(self) -> tuple[RememberedShot, ...]:
        """The shots as a viewer counts them, pieces put together."""
        captions = {shot.begin: shot.caption for shot in self.shots}
        return tuple(RememberedShot(begin=begin, caption=caption) for begin, caption in captions.items())

    def captioned(self, prompts: Sequence[str]) -> History:
        """With other captions: one for all shots, or one for each; without any prompt as it is.

        Raises UsageError if their number does not fit; it says where the cuts are.
        """
        if not prompts:
            return self
        begins = [shot.begin for shot in self.remembered]
        if len(prompts) not in (1, len(begins)):
            raise UsageError(_misfit(len(prompts), begins))
        texts = dict(zip(begins, prompts if len(prompts) > 1 else [*prompts] * len(begins), strict=True))
        return replace(self, shots=tuple(replace(shot, caption=texts[shot.begin]) for shot in self.shots))


def pack_history(shots: Sequence[PastShot], prompt: str, model: VideoModel) -> bytes:
    """Shots as the bytes of a safetensors file, to be stored with a video."""
    words = {
        "revision": model.revision,
        "prompt": prompt,
        "captions": [shot.caption for shot in shots],
        "indices": [shot.index for shot in shots],
        "begins": [shot.begin for shot in shots],
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
        return _last(stored, limit)
    found = model.encode_clip(clip, seconds=limit, size=size or model.sizes(Settings(), None)[0])
    pieces = [(shot.begin, piece) for shot in found for piece in shot.pieces]
    shots = (
        PastShot(index=i, caption="", latents=piece, begin=begin) for i, (begin, piece) in enumerate(pieces)
    )
    return History(shots=tuple(shots), seconds=clip.seconds)


def _last(history: History, seconds: float) -> History:
    """The shots, or pieces of equal length of them, that are seen in the last `seconds`; one at least."""
    pieces = [list(run) for _, run in groupby(history.shots, key=lambda shot: shot.begin)]
    stops = [*(run[0].begin for run in pieces[1:]), history.seconds]
    ends = [
        run[0].begin + (stop - run[0].begin) * number / len(run)
        for run, stop in zip(pieces, stops, strict=True)
        for number in range(1, len(run) + 1)
    ]
    since = history.seconds - seconds + 1e-6
    shots = tuple(shot for shot, end in zip(history.shots, ends, strict=True) if end > since)
    return replace(history, shots=shots or history.shots[-1:])


def _unpack(clip: VideoInfo, payload: bytes, model: VideoModel) -> History | None:
    """Undo `pack_history`; None if another model made the latents."""
    try:
        tensors, words = load(payload), _metadata(payload)
        if words["revision"] != model.revision:
            return None
        facts = zip(words["indices"], words["captions"], words["begins"], strict=True)
        shots = tuple(
            PastShot(index=index, caption=caption, latents=tensors[f"latents.{number}"], begin=begin)
            for number, (index, caption, begin) in enumerate(facts)
        )
        for shot in shots:
            model.check_latents(shot.latents)
            if not (isinstance(shot.index, int) and isinstance(shot.caption, str)):
                raise ValueError("their captions or places are not what they should be")
            if not isinstance(shot.begin, float):
                raise ValueError("their times are not what they should be")
        return History(shots=shots, prompt=words["prompt"], seconds=clip.seconds)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ClipError(
            f"{clip.path}: the latents stored with the clip are damaged ({error}); "
            "convert the clip with another program to drop them"
        ) from None


def _misfit(given: int, begins: Sequence[float]) -> str:
    """What to tell whoever gave another number of captions than there are shots."""
    since = f" from {begins[0]:g} s on" if begins[0] else ""
    told = f"{given} clip prompts were given, but the clip shows"
    if len(begins) == 1:
        return f"{told} one shot{since}: give one --clip-prompt"
    cuts = ("cuts at " if len(begins) > 2 else "a cut at ") + ", ".join(f"{begin:g}" for begin in begins[1:])
    shots = f"{len(begins)} shots{since}, with {cuts} s"
    return f"{told} {shots}: give {len(begins)}, or one --clip-prompt for all of it"


def _metadata(payload: bytes) -> dict[str, Any]:
    """The words in the header of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(payload[:8], "little")
    return dict(json.loads(json.loads(payload[8 : 8 + length])["__metadata__"][METADATA_KEY]))
