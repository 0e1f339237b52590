"""Batches for the DiT: which shots, at which noise levels, under which captions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen.model.config import DiTConfig
from mocgen.text.vocabulary import Vocabulary, pad

from .config import DiTTraining, Stage
from .data import ScenePool

CLEAN = 1.0
PROMPTED_SHARE = 0.3  # of the batches with several shots have global prompts


@dataclass(frozen=True, kw_only=True)
class Batch:
    """S shots of B scenes. All tensors on the CPU."""

    latents: Tensor  # (B, S, T, C, h, w) clean
    noise: Tensor  # like latents
    t: Tensor  # (B, S) noise level; 1: clean history, without loss
    captions: Tensor  # (B, S, N) word ids
    prompt: Tensor | None  # (B, P) word ids of the global prompt
    shots: tuple[int, ...]  # (S,) shot positions


class Batches:
    """Draws batches; each is a function of the pool and a generator alone."""

    def __init__(
        self, pool: ScenePool, vocabulary: Vocabulary, model: DiTConfig, training: DiTTraining
    ) -> None:
        self.pool, self.vocabulary, self.model, self.training = pool, vocabulary, model, training
        prompted = torch.tensor([bool(text.prompt) for text in pool.texts])
        self._with_prompt = prompted.nonzero().flatten()
        self._without_prompt = (~prompted).nonzero().flatten()

    def draw(self, stage: Stage, generator: torch.Generator) -> Batch:
        """A batch of `stage.batch` scenes of `stage.shots` shots."""
        if stage.shots == 1:
            return self._single_shots(stage.batch, generator)
        prompted = bool(torch.rand((), generator=generator) < PROMPTED_SHARE)
        rows = self._with_prompt if prompted else self._without_prompt
        if len(rows) == 0:  # a small pool
            prompted = not prompted
            rows = self._with_prompt if prompted else self._without_prompt
        scenes = rows[torch.randint(len(rows), (stage.batch,), generator=generator)]
        texts = [self.pool.texts[i] for i in scenes.tolist()]
        captions = [caption for text in texts for caption in text.captions[: stage.shots]]
        latents = self.pool.latents[scenes, : stage.shots].float()
        ids = self._ids(captions, generator).unflatten(0, (stage.batch, stage.shots))
        return Batch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator),
            t=self._scene_levels(stage, generator),
            captions=ids,
            prompt=self._ids([text.prompt for text in texts], generator) if prompted else None,
            shots=self._shot_positions(stage.shots, generator),
        )

    def _single_shots(self, count: int, generator: torch.Generator) -> Batch:
        scenes, shots = self.pool.latents.shape[:2]
        picks = torch.randint(scenes * shots, (count,), generator=generator).tolist()
        captions = [self.pool.texts[i // shots].full_captions[i % shots] for i in picks]
        latents = torch.stack([self.pool.latents[i // shots, i % shots] for i in picks]).float()[:, None]
        return Batch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator),
            t=self._levels(count, generator)[:, None],
            captions=self._ids(captions, generator)[:, None],
            prompt=None,
            shots=self._shot_positions(1, generator),
        )

    def _levels(self, count: int, generator: torch.Generator) -> Tensor:  # (count,)
        normal = torch.sigmoid(self.training.noise_mean + torch.randn(count, generator=generator))
        uniform = torch.rand(count, generator=generator)
        return torch.where(
            torch.rand(count, generator=generator) < self.training.noise_uniform, uniform, normal
        )

    def _scene_levels(self, stage: Stage, generator: torch.Generator) -> Tensor:
        """A clean prefix, then independent levels, some of them clean; one shot at least is noisy."""
        shape = (stage.batch, stage.shots)
        levels = self._levels(stage.batch * stage.shots, generator).view(shape)
        prefix = torch.randint(stage.shots, (stage.batch, 1), generator=generator)
        order = torch.arange(stage.shots)
        clean = torch.rand(shape, generator=generator) < self.training.clean_share
        clean = (clean & (order != prefix)) | (order < prefix)
        return torch.where(clean, torch.full_like(levels, CLEAN), levels)

    def _shot_positions(self, shots: int, generator: torch.Generator) -> tuple[int, ...]:
        """Increasing positions: neighbours in half of the batches, otherwise spread over a long span."""
        span = self.training.shot_span
        if torch.rand((), generator=generator) < 0.5:
            first = int(torch.randint(span - shots + 1, (), generator=generator))
            return tuple(range(first, first + shots))
        return tuple(torch.randperm(span, generator=generator)[:shots].sort().values.tolist())

    def _ids(self, captions: list[str], generator: torch.Generator) -> Tensor:
        """Word ids (n, N) of captions, some of them dropped, padded alike."""
        kept = torch.rand(len(captions), generator=generator) >= self.training.caption_dropout
        rows = [
            self.vocabulary.padded(
                caption if keep else "", multiple=self.model.caption_multiple, limit=self.model.caption_limit
            )
            for caption, keep in zip(captions, kept.tolist(), strict=True)
        ]
        longest = max(len(row) for row in rows)
        return torch.tensor([pad(row, longest) for row in rows])
