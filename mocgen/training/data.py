"""The pool of encoded shots that the DiT learns from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from mocgen.codec.embedded import EmbeddedCodec, to_unit_range

from .codec import Frames
from .config import DataConfig
from .world import Look, Pose, SceneSpec, ShotSpec, object_mask, render_pool

OnCast = Callable[[int, int], None]  # done, total
CODEC_FRAMES_PER_SHOT = 3


@dataclass(frozen=True, kw_only=True)
class ClipPool:
    """Encoded shots, grouped by look, and what they show."""

    latents: Tensor  # (looks, clips, T, C, h, w) fp16
    objects: Tensor  # (looks, clips, T, h, w) uint8: how much of each latent the object covers
    shots: tuple[tuple[ShotSpec, ...], ...]


def render_codec_frames(data: DataConfig, *, size: int, seed: int, on_cast: OnCast) -> Frames:
    """Some frames of each shot, for the codec."""
    rng = np.random.default_rng(seed)
    frames, objects = [], []
    scenes = _render(data, data.codec_looks, size, seed)
    for number, (spec, shots) in enumerate(scenes, start=1):
        for shot, pixels in zip(spec.shots, shots, strict=True):
            picks = rng.choice(data.frames, CODEC_FRAMES_PER_SHOT, replace=False)
            frames.append(pixels[picks])
            covered = object_mask(shot, frames=data.frames, size=size)[picks]
            objects.append((covered * 255).astype(np.uint8))
        on_cast(number, data.codec_looks)
    return Frames(
        pixels=torch.from_numpy(np.concatenate(frames)), objects=torch.from_numpy(np.concatenate(objects))
    )


@torch.inference_mode()
def build_pool(
    codec: EmbeddedCodec, data: DataConfig, *, seed: int, on_cast: OnCast, held_out: bool = False
) -> ClipPool:
    """Render shots and encode them."""
    latents, objects, shots = [], [], []
    size = codec.config.size
    casts = _render(data, data.looks, size, seed, held_out=held_out)
    for number, (spec, pixels) in enumerate(casts, start=1):
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(codec.encode(to_unit_range(torch.from_numpy(pixels))).half())
        masks = np.stack([object_mask(shot, frames=data.frames, size=size) for shot in spec.shots])
        cover = F.avg_pool2d(torch.from_numpy(masks), size // codec.config.latent_size)
        objects.append((255 * cover).round().to(torch.uint8))
        shots.append(spec.shots)
        on_cast(number, data.looks)
    return ClipPool(latents=torch.stack(latents), objects=torch.stack(objects), shots=tuple(shots))


def save_pool(pool: ClipPool, path: Path) -> None:
    """Write latents to `path` and what they show beside it as JSON."""
    path.with_suffix(".json").write_text(
        json.dumps([[asdict(shot) for shot in shots] for shots in pool.shots])
    )
    partial = path.with_suffix(".part")
    save_file({"latents": pool.latents, "objects": pool.objects}, partial)
    partial.replace(path)


def load_pool(path: Path) -> ClipPool:
    """Undo `save_pool`."""
    casts = json.loads(path.with_suffix(".json").read_text())
    tensors = load_file(path)
    return ClipPool(
        latents=tensors["latents"],
        objects=tensors["objects"],
        shots=tuple(tuple(_shot(fields) for fields in cast) for cast in casts),
    )


def _shot(fields: dict[str, Any]) -> ShotSpec:
    return ShotSpec(**(fields | {"look": Look(**fields["look"]), "pose": Pose(**fields["pose"])}))


def _render(
    data: DataConfig, looks: int, size: int, seed: int, *, held_out: bool = False
) -> Iterator[tuple[SceneSpec, np.ndarray]]:
    return render_pool(
        seed,
        scenes=looks,
        shots=data.clips,
        frames=data.frames,
        size=size,
        workers=data.workers,
        held_out=held_out,
        casts=True,
        variety=data.world,
    )
