"""Batches for the DiT: which shots, at which noise levels, under which captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mocgen.model.config import DiTConfig
from mocgen.text.vocabulary import Vocabulary

from .compose import word_ids
from .config import DiTTraining, Stage
from .sources import Source

CLEAN = 1.0
ALL_NOISY_SHARE = 0.2  # of the batches with several shots have no clean history


@dataclass(frozen=True, kw_only=True)
class Batch:
    """S shots of B scenes: clean ones first, then noisy ones."""

    latents: Tensor  # (B, S, T, C, h, w) clean
    objects: Tensor  # (B, S, T, h, w) how much of each latent the object covers
    looks: Tensor | None  # (B, S, 4) classes of the object's look
    sketches: Tensor | None  # (B, S, T, 6) where the object is; a radius of 0: not told
    noise: Tensor  # like latents
    t: Tensor  # (B, S) noise level; 1: clean
    captions: Tensor  # (B, S, N) word ids
    prompt: Tensor | None  # (B, P) word ids of the global prompt
    shots: tuple[int, ...]  # (S,) shot positions
    clean: int  # how many shots are history, clean or nearly so, without loss
    frames: tuple[int, ...]  # of each noisy shot that enter the loss

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on a device."""
        return replace(
            self,
            latents=self.latents.to(device),
            objects=self.objects.to(device),
            looks=None if self.looks is None else self.looks.to(device),
            sketches=None if self.sketches is None else self.sketches.to(device),
            noise=self.noise.to(device),
            t=self.t.to(device),
            captions=self.captions.to(device),
            prompt=None if self.prompt is None else self.prompt.to(device),
        )


class Batches:
    """Draws batches; each is a function of the source and a generator alone."""

    def __init__(
        self, source: Source, vocabulary: Vocabulary, model: DiTConfig, training: DiTTraining
    ) -> None:
        self.source, self.vocabulary, self.model, self.training = source, vocabulary, model, training

    def draw(self, stage: Stage, generator: torch.Generator) -> Batch:
        """A batch of `stage.batch` scenes of `stage.shots` shots."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        if stage.shots > 1 and rng.random() < stage.singles:
            stage = replace(stage, batch=stage.batch * stage.shots, shots=1)
        clean = 0
        if stage.shots > 1 and rng.random() >= ALL_NOISY_SHARE:
            clean = int(rng.integers(1, stage.shots))
        source = self.source
        drawn = source.scenes(stage, clean, rng) if stage.shots > 1 else source.single_shots(stage.batch, rng)
        captions = [text for line in drawn.captions for text in self._kept(line, clean, rng)]
        t = self._levels(stage.batch * stage.shots, generator).view(stage.batch, stage.shots)
        t[:, :clean] = CLEAN - self._history_noise(generator)
        return Batch(
            latents=drawn.latents,
            objects=drawn.objects,
            looks=drawn.looks,
            sketches=self._sketches(drawn.sketches, generator),
            noise=torch.randn(drawn.latents.shape, generator=generator),
            t=t,
            captions=self._word_ids(captions).unflatten(0, t.shape),
            prompt=self._word_ids(drawn.prompts) if drawn.prompts[0] else None,
            shots=self._shot_positions(stage.shots, generator),
            clean=clean,
            frames=self._frames(drawn.latents.shape[2], rng),
        )

    def _kept(self, captions: Sequence[str], clean: int, rng: np.random.Generator) -> list[str]:
        """The captions of a scene, some of them dropped."""
        silent = clean if rng.random() < self.training.silent_history else 0
        return [
            "" if number < silent or rng.random() < self.training.caption_dropout else caption
            for number, caption in enumerate(captions)
        ]

    def _sketches(self, sketches: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """The sketches of shots (B, S, T, 6), some of them wiped out."""
        if sketches is None or not self.model.sketch_frames:
            return None
        told = torch.rand(sketches.shape[:2], generator=generator) >= self.training.sketch_dropout
        return sketches * told[..., None, None]

    def _frames(self, count: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Some frames of a shot, one in each of as many equal parts."""
        wanted = self.training.frames
        edges = [count * part // wanted for part in range(wanted + 1)]
        return tuple(int(rng.integers(start, end)) for start, end in pairwise(edges))

    def _levels(self, count: int, generator: torch.Generator) -> Tensor:  # (count,)
        normal = torch.sigmoid(self.training.noise_mean + torch.randn(count, generator=generator))
        uniform = torch.rand(count, generator=generator)
        return torch.where(
            torch.rand(count, generator=generator) < self.training.noise_uniform, uniform, normal
        )

    def _history_noise(self, generator: torch.Generator) -> float:
        """The share of noise in the clean prefix of a batch: none in half of the batches."""
        first, second = torch.rand(2, generator=generator).tolist()
        return self.training.history_noise * first if second < 0.5 else 0.0

    def _shot_positions(self, shots: int, generator: torch.Generator) -> tuple[int, ...]:
        """Increasing positions: neighbours in half of the batches, otherwise spread over a long span."""
        span = self.training.shot_span
        if torch.rand((), generator=generator) < 0.5:
            first = int(torch.randint(span - shots + 1, (), generator=generator))
            return tuple(range(first, first + shots))
        return tuple(torch.randperm(span, generator=generator)[:shots].sort().values.tolist())

    def _word_ids(self, captions: Sequence[str]) -> Tensor:  # (n, N)
        return word_ids(captions, self.vocabulary, self.model)
