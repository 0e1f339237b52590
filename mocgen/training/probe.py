"""The memory gap: is a returning hero drawn as it was seen? Known in seconds, long before eyes can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mocgen.model.attention import Routing
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.sampling import add_noise
from mocgen.text.vocabulary import Vocabulary

from .batches import CLEAN
from .compose import Composed, latents_of, word_ids
from .data import ClipPool
from .sketch import sketches_of
from .world import ShotSpec, full_caption, scene_captions

SCENES = 32
LEVEL = 0.05  # noise level at which a look must be known: little of it is in the noisy latents
FRAMES = (1, 6)  # whose prediction is compared


class MemoryProbe:
    """Fixed scenes of four shots: a hero, two others, the hero again, its look in no caption."""

    def __init__(self, pool: ClipPool, vocabulary: Vocabulary, *, seed: int = 0) -> None:
        """pool: shots that are not trained on, two looks at least with two shots each."""
        rng = np.random.default_rng(seed)
        self.pool, self.vocabulary = pool, vocabulary
        self._sketches = sketches_of(pool)
        looks = len(pool.shots)
        heroes = rng.permutation(looks)[:SCENES]
        self._scenes = [self._scene(int(hero), rng) for hero in heroes]
        others = [
            self._scenes[(n + 1) % len(self._scenes)].clips[0]  # seen first in another scene
            for n in range(len(self._scenes))
        ]
        self._swapped = [
            replace(scene, clips=(other, *scene.clips[1:]))
            for scene, other in zip(self._scenes, others, strict=True)
        ]
        self._named = [
            replace(scene, captions=(*scene.captions[:-1], full_caption(self._shot(scene.clips[-1]), rng)))
            for scene in self._scenes
        ]

    def _shot(self, clip: tuple[int, int]) -> ShotSpec:
        return self.pool.shots[clip[0]][clip[1]]

    def _scene(self, hero: int, rng: np.random.Generator) -> Composed:
        casts, count = len(self.pool.shots), len(self.pool.shots[0])
        first, last = rng.choice(count, 2, replace=False)
        others = [int((hero + step) % casts) for step in rng.integers(1, casts, size=2)]
        clips = ((hero, int(first)), *((o, int(rng.integers(count))) for o in others), (hero, int(last)))
        captions = scene_captions([self._shot(clip) for clip in clips], "nowhere", rng, again=0)
        return Composed(clips=clips, captions=captions)

    @torch.no_grad()
    def measure(self, model: MoCDiT, *, top_k: int) -> float:
        """What the memory of the hero tells, as a share of what naming its look tells.

        (error with another hero's past − error with the true past) / (error with another hero's past −
        error when the caption names the look): 0 without memory, about 1 when a shot seen is as good as
        words. The errors are those of the predicted last shot from nearly pure noise.
        """
        true, swapped, named = (
            self._error(model, scenes, top_k) for scenes in (self._scenes, self._swapped, self._named)
        )
        return (swapped - true) / max(1e-6, swapped - named)

    def _error(self, model: MoCDiT, scenes: list[Composed], top_k: int) -> float:
        latents = latents_of(self.pool, scenes)  # (B, 4, T, C, h, w)
        noise = torch.randn(latents[:, -1].shape, generator=torch.Generator().manual_seed(1))
        captions = word_ids([c for scene in scenes for c in scene.captions], self.vocabulary, model.config)
        captions = captions.unflatten(0, (len(scenes), -1))
        clean, level = (torch.full((len(scenes),), value) for value in (CLEAN, LEVEL))
        shots = [
            NoisyShot(index=s, caption=captions[:, s], latents=latents[:, s], t=clean, wanted=())
            for s in range(latents.shape[1] - 1)
        ]
        casts, clips = torch.tensor([scene.clips[-1] for scene in scenes]).unbind(-1)
        shots.append(
            NoisyShot(
                index=len(shots),
                caption=captions[:, -1],
                latents=add_noise(latents[:, -1], noise, level),
                t=level,
                wanted=FRAMES,
                sketch=self._sketches[casts, clips],
            )
        )
        device = next(model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16):
            predicted: Tensor = model([shot.to(device) for shot in shots], routing=Routing(top_k=top_k))[-1]
        predicted = predicted.float().cpu()
        return (predicted - latents[:, -1, list(FRAMES)]).square().mean().item()
