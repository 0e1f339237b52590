"""The stem of the DiT learns to tell looks, before the DiT learns to draw them.

Frame by frame, from the latents of an object, also noisy ones: shape, pattern and colours. That takes minutes
by itself; as a by-product of drawing it has been seen to take hours, and what is not recognised cannot be
remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocgen.model.config import DiTConfig
from mocgen.model.layers import Stem
from mocgen.sampling import add_noise

from .config import StemTraining
from .data import ClipPool
from .looks import CLASSES, COVERED, look_entropy, look_labels
from .optim import Optimizers
from .state import Deadline, OnStep, learn, step_generator

CLEAN_SHARE = 0.5  # of the frames are without noise
NOISIEST = 0.3  # noise level of the others, at least


class StemPupil(nn.Module):
    """A stem, and what reads the look from it."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        assert config.stem_width is not None
        self.stem = Stem(config.latent_channels, config.stem_width, config.stem_blocks)
        self.head = nn.Linear(config.stem_width, sum(CLASSES))


@dataclass(frozen=True, kw_only=True)
class LookFrames:
    """Single frames of N shots."""

    latents: Tensor  # (N, C, h, w) at noise levels t
    objects: Tensor  # (N, h, w) how much of each latent the object covers
    looks: Tensor  # (N, 4) classes

    def to(self, device: torch.device) -> LookFrames:
        """The frames on a device."""
        return LookFrames(
            latents=self.latents.to(device), objects=self.objects.to(device), looks=self.looks.to(device)
        )


def stem_loss(pupil: StemPupil, frames: LookFrames) -> Tensor:
    """Mean cross-entropy, summed over the four attributes, where the object is."""
    with torch.autocast(frames.latents.device.type, torch.bfloat16):
        features = pupil.stem(frames.latents[:, None])[:, 0].movedim(1, -1)  # (N, h, w, W)
    covered = frames.objects > COVERED
    wanted = frames.looks[:, None, None].expand(*covered.shape, -1)
    return look_entropy(pupil.head, features[covered], wanted[covered])


def stem_error(stem: Stem, predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of what a frozen stem sees in two latents (N, T, C, h, w): (N, T, h, w).

    Features of a network that tells looks weigh shapes and patterns as heavily as colours, unlike the
    latents themselves: a perceptual loss of the predicted picture (Lin & Yang, arXiv 2401.00110). Where
    nearly all is noise the prediction is a mean of pictures, which is none: there it should count little.
    """
    with torch.autocast(predicted.device.type, torch.bfloat16):
        with torch.no_grad():
            wanted = stem(target)
        found = stem(predicted)
    found, wanted = (F.rms_norm(x.float().movedim(2, -1), x.shape[2:3]) for x in (found, wanted))
    return (found - wanted).square().mean(-1)


def draw_frames(pool: ClipPool, labels: Tensor, count: int, generator: torch.Generator) -> LookFrames:
    """Frames of the pool by chance; labels: (looks, 4) classes."""
    looks, clips, length = pool.latents.shape[:3]
    where = [torch.randint(size, (count,), generator=generator) for size in (looks, clips, length)]
    latents = pool.latents[where[0], where[1], where[2]].float()
    t = NOISIEST + (1 - NOISIEST) * torch.rand(count, generator=generator)
    t[torch.rand(count, generator=generator) < CLEAN_SHARE] = 1.0
    return LookFrames(
        latents=add_noise(latents, torch.randn(latents.shape, generator=generator), t),
        objects=pool.objects[where[0], where[1], where[2]].float() / 255,
        looks=labels[where[0]],
    )


def train_stem(
    config: DiTConfig,
    training: StemTraining,
    pool: ClipPool,
    *,
    seed: int,
    state: Path,
    save_every: int,
    on_step: OnStep,
    device: torch.device,
    deadline: Deadline,
) -> Stem:
    """A trained stem, with averaged weights, on the CPU.

    Goes on from `state` if that file exists, with the same result as an uninterrupted run. Raises Paused
    at the deadline.
    """
    torch.manual_seed(seed)
    pupil = StemPupil(config).to(device)
    optimizers = Optimizers(pupil, (), training.optim)
    labels = torch.tensor([look_labels(shots[0].look) for shots in pool.shots])

    def loss_at(step: int) -> Tensor:
        frames = draw_frames(pool, labels, training.batch, step_generator(seed, step))
        return stem_loss(pupil, frames.to(device))

    learn(
        pupil,
        optimizers,
        loss_at,
        steps=training.steps,
        state=state,
        save_every=save_every,
        on_step=on_step,
        deadline=deadline,
    )
    return pupil.stem.cpu().eval()
