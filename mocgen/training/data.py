"""The pool of encoded scenes that the DiT learns from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mocgen.codec.embedded import EmbeddedCodec, to_unit_range

from .codec import Frames
from .config import DataConfig
from .world import SceneSpec, object_mask, render_pool

OnScene = Callable[[int, int], None]  # done, total
CODEC_FRAMES_PER_SHOT = 3


@dataclass(frozen=True, kw_only=True)
class SceneText:
    """The words of one scene: global prompt, captions as they stand in it, and self-contained captions."""

    prompt: str
    captions: tuple[str, ...]
    full_captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ScenePool:
    """Encoded scenes: latents (scenes, shots, T, C, h, w) fp16 and their words."""

    latents: Tensor
    texts: tuple[SceneText, ...]


def render_codec_frames(data: DataConfig, *, size: int, seed: int, on_scene: OnScene) -> Frames:
    """Some frames of each shot, for the codec."""
    rng = np.random.default_rng(seed)
    frames, objects = [], []
    scenes = _render(data, data.codec_scenes, size, seed)
    for number, (spec, shots) in enumerate(scenes, start=1):
        for shot, pixels in zip(spec.shots, shots, strict=True):
            picks = rng.choice(data.frames, CODEC_FRAMES_PER_SHOT, replace=False)
            frames.append(pixels[picks])
            covered = object_mask(shot, frames=data.frames, size=size)[picks]
            objects.append((covered * 255).astype(np.uint8))
        on_scene(number, data.codec_scenes)
    return Frames(
        pixels=torch.from_numpy(np.concatenate(frames)), objects=torch.from_numpy(np.concatenate(objects))
    )


@torch.inference_mode()
def build_pool(codec: EmbeddedCodec, data: DataConfig, *, seed: int, on_scene: OnScene) -> ScenePool:
    """Render scenes and encode them."""
    latents, texts = [], []
    scenes = _render(data, data.scenes, codec.config.size, seed)
    for number, (spec, shots) in enumerate(scenes, start=1):
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(codec.encode(to_unit_range(torch.from_numpy(shots))).half())
        texts.append(
            SceneText(
                prompt=spec.prompt,
                captions=tuple(shot.caption for shot in spec.shots),
                full_captions=tuple(shot.full_caption for shot in spec.shots),
            )
        )
        on_scene(number, data.scenes)
    return ScenePool(latents=torch.stack(latents), texts=tuple(texts))


def save_pool(pool: ScenePool, path: Path) -> None:
    """Write latents to `path` and the words beside it as JSON."""
    path.with_suffix(".json").write_text(json.dumps([asdict(text) for text in pool.texts]))
    partial = path.with_suffix(".part")
    save_file({"latents": pool.latents}, partial)
    partial.replace(path)


def load_pool(path: Path) -> ScenePool:
    """Undo `save_pool`."""
    texts = json.loads(path.with_suffix(".json").read_text())
    return ScenePool(
        latents=load_file(path)["latents"],
        texts=tuple(
            SceneText(
                prompt=text["prompt"],
                captions=tuple(text["captions"]),
                full_captions=tuple(text["full_captions"]),
            )
            for text in texts
        ),
    )


def _render(data: DataConfig, scenes: int, size: int, seed: int) -> Iterator[tuple[SceneSpec, np.ndarray]]:
    return render_pool(
        seed, scenes=scenes, shots=data.shots, frames=data.frames, size=size, workers=data.workers
    )
