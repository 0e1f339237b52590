"""What came before: the clip that a run extends, as clean shots for the context memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.codec.embedded import to_unit_range
from mocgen.errors import ClipError
from mocgen.video import VideoInfo, read_attachment, read_frames

METADATA_KEY = "mocgen"
CONTEXT_SECONDS = 60.0  # of a clip that are remembered unless the user says otherwise


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


def pack_history(shots: Sequence[PastShot], prompt: str, model: NativeModel) -> bytes:
    """Shots as the bytes of a safetensors file, to be stored with a video."""
    words = {
        "revision": model.revision,
        "prompt": prompt,
        "captions": [shot.caption for shot in shots],
        "indices": [shot.index for shot in shots],
    }
    tensors = {f"latents.{number}": shot.latents.cpu().contiguous() for number, shot in enumerate(shots)}
    return save(tensors, {METADATA_KEY: json.dumps(words)})  # one key: their order in the file is random


def read_history(clip: VideoInfo, model: NativeModel, *, seconds: float | None) -> History:
    """The last `seconds` of a clip as shots.

    Latents that were stored with the clip are taken as they are if this very model made them; otherwise
    the pixels are encoded, in shots of the model's own length, the last of which ends with the clip.

    Raises ClipError if the clip cannot be decoded.
    """
    limit = CONTEXT_SECONDS if seconds is None else seconds
    payload = read_attachment(clip.path)
    stored = _unpack(clip, payload, model) if payload else None
    if stored is not None:
        defaults = model.defaults
        keep = max(1, round(limit * defaults.fps / defaults.frames))
        return History(shots=stored.shots[-keep:], prompt=stored.prompt)
    return _encode(clip, model, limit)


def _unpack(clip: VideoInfo, payload: bytes, model: NativeModel) -> History | None:
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
            _check_shot(shot, model)
        return History(shots=shots, prompt=words["prompt"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ClipError(
            f"{clip.path}: the latents stored with the clip are damaged ({error}); "
            "convert the clip with another program to drop them"
        ) from None


def _check_shot(shot: PastShot, model: NativeModel) -> None:
    """Raise ValueError if this is no shot that the model could have made."""
    config = model.dit.config
    frames = shot.latents.shape[1] if shot.latents.ndim == 5 else 0
    shape = (1, frames, config.latent_channels, config.latent_size, config.latent_size)
    if not frames or frames % config.patch_frames or shot.latents.shape != shape:
        raise ValueError(f"they have the shape {tuple(shot.latents.shape)}")
    if not isinstance(shot.index, int) or not isinstance(shot.caption, str):
        raise ValueError("their captions or places are not what they should be")
    if not shot.latents.isfinite().all():
        raise ValueError("they hold values that are no numbers")


def _metadata(payload: bytes) -> dict[str, Any]:
    """The words in the header of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(payload[:8], "little")
    return dict(json.loads(json.loads(payload[8 : 8 + length])["__metadata__"][METADATA_KEY]))


def _encode(clip: VideoInfo, model: NativeModel, seconds: float) -> History:
    side, defaults = model.codec.config.size, model.defaults
    frames = read_frames(clip.path, fps=defaults.fps, size=(side, side), last_seconds=seconds)
    latents = torch.cat([_encode_frames(chunk, model) for chunk in _chunks(frames, defaults.frames)])
    group = model.dit.config.patch_frames
    if len(latents) < group:  # begin with a still of the first frame
        latents = torch.cat((latents[:1].expand(group - len(latents), *latents.shape[1:]), latents))
    latents = latents[len(latents) % group :]
    first = len(latents) % defaults.frames or defaults.frames
    pieces = (
        (latents[:first], *latents[first:].split(defaults.frames)) if len(latents) > first else (latents,)
    )
    return History(
        shots=tuple(PastShot(index=i, caption="", latents=piece[None]) for i, piece in enumerate(pieces))
    )


def _chunks(frames: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Frames in runs of `size`: (size or fewer, H, W, 3)."""
    chunk: list[np.ndarray] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)


@torch.inference_mode()
def _encode_frames(frames: np.ndarray, model: NativeModel) -> Tensor:
    """(T, H, W, 3) uint8 → latents (T, C, h, w) fp32."""
    weight = next(model.codec.parameters())
    pixels = to_unit_range(torch.from_numpy(frames)).to(weight.device, weight.dtype)
    return model.codec.encode(pixels).float()
