"""What a run learns from, made ready: the world's pool of shots, or a folder of clips, encoded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from mocgen.bundle import Defaults
from mocgen.codec.embedded import EmbeddedCodec, to_unit_range
from mocgen.errors import TrainingError
from mocgen.text.vocabulary import Vocabulary

from .clips import ClipScene, OnBad, read_entries, read_scenes
from .codec import Frames
from .config import TrainConfig
from .data import OnCast, build_pool, load_pool, render_codec_frames, save_pool
from .probe import MemoryProbe
from .sources import ClipSource, EncodedClip, Source, WorldSource
from .world import PLAIN, STOP_WORDS, WORDS, words_beyond
from .world.words import words_of

WORLD = "world"
PROBE_LOOKS = 64
SHOWN_BAD = 3  # bad clips that an error names


class WorldMaterial:
    """The synthetic world. Its pool is kept in the run's folder."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out

    def vocabulary(self) -> Vocabulary:
        """The words of the world, as far as its variety goes."""
        return Vocabulary.of(WORDS | words_beyond(self.config.data.world), STOP_WORDS)

    def codec_frames(self, size: int, on_progress: OnCast) -> Frames:
        """Pictures that a codec learns from."""
        return render_codec_frames(self.config.data, size=size, seed=self.config.seed, on_cast=on_progress)

    def source(self, codec: EmbeddedCodec, on_progress: OnCast) -> Source:
        """Scenes in latents."""
        path = self.out / "pool.safetensors"
        if not path.exists():
            pool = build_pool(codec, self.config.data, seed=self.config.seed, on_cast=on_progress)
            save_pool(pool, path)
        return WorldSource(load_pool(path), self.config.training, self.config.data.world)

    def probe(self, codec: EmbeddedCodec, vocabulary: Vocabulary) -> MemoryProbe | None:
        """The probe of the memory gap, on looks and places that are held out of the pool."""
        data = dataclasses.replace(self.config.data, looks=PROBE_LOOKS, clips=2, workers=1, world=PLAIN)
        seed = self.config.seed
        pool = build_pool(codec, data, seed=seed, on_cast=lambda done, total: None, held_out=True)
        return MemoryProbe(pool, vocabulary)

    def unknown_words(self, vocabulary: Vocabulary) -> list[str]:
        """Words of the captions that a vocabulary does not hold, in alphabetical order."""
        words = words_beyond(self.config.data.world)
        return sorted({word for word in words if vocabulary.read(word).unknown})


class ClipMaterial:
    """A folder of clips."""

    def __init__(self, config: TrainConfig, size: int, on_bad: OnBad) -> None:
        """Read all clips; raises TrainingError if none is of use, or some are not and are to be refused."""
        folder, bad = Path(config.source), list[str]()

        def note(what: str) -> None:
            bad.append(what)
            on_bad(what)

        entries = read_entries(folder, note)
        frames, fps = config.data.frames, Defaults.fps
        self.config = config
        self.scenes = list(read_scenes(entries, frames=frames, fps=fps, size=size, on_bad=note))
        if bad and config.bad_clips == "refuse":
            more = f" (and {len(bad) - SHOWN_BAD} more)" if len(bad) > SHOWN_BAD else ""
            raise TrainingError(f"bad clips: {'; '.join(bad[:SHOWN_BAD])}{more}")
        if not self.scenes:
            raise TrainingError(f"{folder} holds no clip that can be learned from: {bad[0]}")

    def vocabulary(self) -> Vocabulary:
        """All words of the captions and prompts."""
        texts = [text for scene in self.scenes for text in _texts(scene)]
        return Vocabulary.of({word for text in texts for word in words_of(text)}, STOP_WORDS)

    def codec_frames(self, size: int, on_progress: OnCast) -> Frames:
        """All frames of all shots."""
        pixels = np.concatenate([scene.pixels.reshape(-1, size, size, 3) for scene in self.scenes])
        return Frames(
            pixels=torch.from_numpy(pixels), objects=torch.zeros(pixels.shape[:3], dtype=torch.uint8)
        )

    @torch.inference_mode()
    def source(self, codec: EmbeddedCodec, on_progress: OnCast) -> Source:
        """Scenes in latents."""
        clips = []
        for number, scene in enumerate(self.scenes, start=1):
            with torch.autocast("cpu", torch.bfloat16):
                latents = codec.encode(to_unit_range(torch.from_numpy(scene.pixels))).half()
            captions = tuple(shot.caption for shot in scene.entry.shots)
            clips.append(EncodedClip(latents=latents, captions=captions, prompt=scene.entry.prompt))
            on_progress(number, len(self.scenes))
        return ClipSource(clips, self.config.training.stages)

    def probe(self, codec: EmbeddedCodec, vocabulary: Vocabulary) -> MemoryProbe | None:
        """None: nobody knows which of the clips show what."""
        return None

    def unknown_words(self, vocabulary: Vocabulary) -> list[str]:
        """Words of the captions that a vocabulary does not hold, in alphabetical order."""
        texts = [text for scene in self.scenes for text in _texts(scene)]
        return sorted({word for text in texts for word in vocabulary.read(text).unknown})


def _texts(scene: ClipScene) -> list[str]:
    return [scene.entry.prompt, *(shot.caption for shot in scene.entry.shots)]
