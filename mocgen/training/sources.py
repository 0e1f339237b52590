"""Where scenes come from: put together from the pool of the world, or taken from clips as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mocgen.errors import TrainingError

from .compose import Composed, compose, latents_of, objects_of
from .config import DiTTraining, Stage
from .data import ClipPool
from .looks import look_labels
from .sketch import sketches_of
from .world import PLAIN, Naming, Variety, full_caption

RESTLESS = ("bounces", "flies in a circle", "spins")  # motions that are hard to tell from faint evidence
NAMED_AT_FIRST_SIGHT = 0.8  # of the scenes without clean history name the look of the hero at its beginning


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """S clean shots of B scenes and their words."""

    latents: Tensor  # (B, S, T, C, h, w)
    objects: Tensor  # (B, S, T, h, w) how much of each latent the object covers
    looks: Tensor | None  # (B, S, 4) classes of shape, pattern and colours, where they are known
    sketches: Tensor | None  # (B, S, T, 6), where they are known
    captions: tuple[tuple[str, ...], ...]  # B of S
    prompts: tuple[str, ...]  # B: all empty, or none


class Source(Protocol):
    """Draws scenes; what is drawn is a function of the generator alone."""

    def single_shots(self, count: int, rng: np.random.Generator) -> Drawn:
        """Scenes of one shot whose captions stand for themselves."""

    def scenes(self, stage: Stage, clean: int, rng: np.random.Generator) -> Drawn:
        """A stage's batch of scenes, the first `clean` shots of which will be history."""


class WorldSource:
    """Scenes put together from rendered shots."""

    def __init__(self, pool: ClipPool, training: DiTTraining, variety: Variety = PLAIN) -> None:
        self.pool, self.training, self.variety = pool, training, variety
        self._labels = torch.tensor([look_labels(shots[0].look) for shots in pool.shots])  # (looks, 4)
        self._sketches = sketches_of(pool)
        self._restless = [
            (cast, clip)
            for cast, shots in enumerate(pool.shots)
            for clip, shot in enumerate(shots)
            if shot.motion in RESTLESS
        ]

    def single_shots(self, count: int, rng: np.random.Generator) -> Drawn:
        """Shots of the pool under newly written captions."""
        picks = [self._pick(rng) for _ in range(count)]
        shots = [self.pool.shots[cast][clip] for cast, clip in picks]
        return self._drawn(
            [
                Composed(clips=(pick,), captions=(full_caption(shot, rng, self.variety),))
                for pick, shot in zip(picks, shots, strict=True)
            ]
        )

    def _pick(self, rng: np.random.Generator) -> tuple[int, int]:
        """A shot of the pool, as (cast, clip)."""
        if self._restless and rng.random() < self.training.restless:
            return self._restless[rng.integers(len(self._restless))]
        casts, clips = self.pool.latents.shape[:2]
        return int(rng.integers(casts)), int(rng.integers(clips))

    def scenes(self, stage: Stage, clean: int, rng: np.random.Generator) -> Drawn:
        """Scenes of which all or none have a global prompt; a first shot without past is mostly named."""
        training = self.training
        prompted = rng.random() < training.named_in_prompt
        in_caption = training.named_in_caption / max(1e-9, 1 - training.named_in_prompt)
        if clean == 0:
            in_caption = max(in_caption, NAMED_AT_FIRST_SIGHT)
        scenes = []
        for _ in range(stage.batch):
            naming: Naming = "prompt" if prompted else "caption" if rng.random() < in_caption else "nowhere"
            scenes.append(
                compose(
                    self.pool,
                    shots=stage.shots,
                    distractors=stage.distractors,
                    naming=naming,
                    rng=rng,
                    variety=self.variety,
                )
            )
        return self._drawn(scenes)

    def _drawn(self, scenes: Sequence[Composed]) -> Drawn:
        casts, clips = torch.tensor([scene.clips for scene in scenes]).unbind(-1)  # (B, S) each
        return Drawn(
            latents=latents_of(self.pool, scenes),
            objects=objects_of(self.pool, scenes),
            looks=self._labels[casts],
            sketches=self._sketches[casts, clips],
            captions=tuple(scene.captions for scene in scenes),
            prompts=tuple(scene.prompt for scene in scenes),
        )


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """Latents (S, T, C, h, w) fp16 of a clip's shots, and its words."""

    latents: Tensor
    captions: tuple[str, ...]
    prompt: str


class ClipSource:
    """Scenes that are runs of shots of clips."""

    def __init__(self, clips: Sequence[EncodedClip], stages: Sequence[Stage]) -> None:
        """Raises TrainingError if no clip has as many shots as some stage asks for."""
        self.clips = clips
        most = max(len(clip.captions) for clip in clips)
        asked = max(stage.shots for stage in stages)
        if asked > most:
            raise TrainingError(
                f"training.stages.shots is {asked}, but no clip has more than {most} usable shots"
            )

    def single_shots(self, count: int, rng: np.random.Generator) -> Drawn:
        """Shots of the clips, without their global prompts."""
        shots = [(c, s) for c, clip in enumerate(self.clips) for s in range(len(clip.captions))]
        return self._drawn([shots[i] for i in rng.integers(len(shots), size=count)], 1, prompted=False)

    def scenes(self, stage: Stage, clean: int, rng: np.random.Generator) -> Drawn:
        """Runs of shots that follow one another; all or none with a global prompt."""
        runs = [
            (c, s) for c, clip in enumerate(self.clips) for s in range(len(clip.captions) - stage.shots + 1)
        ]
        prompted = bool(self.clips[runs[rng.integers(len(runs))][0]].prompt)
        runs = [run for run in runs if bool(self.clips[run[0]].prompt) == prompted]
        picks = [runs[i] for i in rng.integers(len(runs), size=stage.batch)]
        return self._drawn(picks, stage.shots, prompted=prompted)

    def _drawn(self, starts: Sequence[tuple[int, int]], shots: int, *, prompted: bool) -> Drawn:
        latents = torch.stack([self.clips[c].latents[s : s + shots] for c, s in starts]).float()
        return Drawn(
            latents=latents,
            objects=torch.zeros_like(latents[:, :, :, 0]),
            looks=None,
            sketches=None,
            captions=tuple(self.clips[c].captions[s : s + shots] for c, s in starts),
            prompts=tuple(self.clips[c].prompt if prompted else "" for c, _ in starts),
        )
