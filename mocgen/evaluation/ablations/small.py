"""Train a small model on returns, in one variant, with the code that trains the large ones."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn

from mocgen.bundle import NativeModel
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.training.batches import CLEAN, Batch
from mocgen.training.config import DiTTraining, Stage
from mocgen.training.dit import Pupil, dit_optimizers, step_loss
from mocgen.training.optim import OptimConfig

from .attention import AblatedAttention
from .pool import ReturnPool, draw_others, put_together
from .request import AblationRequest
from .variants import Variant

MOST_NOISY = 3  # last shots of a scene that are noisy
NOISE_MEAN = -1.2  # t = sigmoid(N(mean, 1))
SHOT_SPAN = 48  # shot positions are drawn from a span this long
OBJECT_WEIGHT = 3.0  # of latents that the object covers
LOOK_WEIGHT = 0.5  # of the classifiers' loss


def small_model(base: NativeModel, variant: Variant, request: AblationRequest) -> MoCDiT:
    """A model of one-frame shots with attention of the variant, and the base's stem, which is frozen."""
    head = request.width // 4
    of_shot = head // 4 // 2 * 2
    of_row = (head - of_shot) // 2
    theirs = base.dit.config
    config = DiTConfig(
        width=request.width,
        depth=request.depth,
        heads=4,
        vocabulary=len(base.vocabulary),
        latent_channels=theirs.latent_channels,
        latent_size=theirs.latent_size,
        patch=request.patch,
        patch_frames=1,
        refine_width=32,
        refine_blocks=1,
        rope_axes=(of_shot, 0, of_row, of_row),  # one frame has no time
        stem_width=theirs.stem_width,
        stem_blocks=theirs.stem_blocks,
        readout=request.depth // 2,
    )
    model = MoCDiT(config)
    for layer, block in enumerate(model.blocks):
        block.attention = AblatedAttention(config.width, config.heads, layer, variant)
    if theirs.stem_width:
        model.stem.load_state_dict(base.dit.stem.state_dict())
        model.stem.requires_grad_(False)
        nn.init.normal_(model.stem_in.weight, std=model.stem_in.in_features**-0.5)
    return model


def new_pupil(base: NativeModel, variant: Variant, request: AblationRequest, *, seed: int) -> Pupil:
    """A small model with random weights, and the classifiers that teach it looks."""
    torch.manual_seed(seed)
    return Pupil(small_model(base, variant, request), looks=True)


def train(
    pupil: Pupil,
    pool: ReturnPool,
    stage: Stage,
    optim: OptimConfig,
    *,
    seed: int,
    on_step: Callable[[int], None],
) -> float:
    """Train for a stage; returns the mean loss of the last tenth of its steps."""
    training = DiTTraining(stages=(stage,), object_weight=OBJECT_WEIGHT, look_weight=LOOK_WEIGHT, optim=optim)
    optimizers = dit_optimizers(pupil.train(), training)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(stage.steps):
        loss = step_loss(pupil, draw_batch(pool, stage, generator), stage, generator, training)
        loss.backward()
        optimizers.step(step, stage.steps)
        losses.append(float(loss.detach()))
        on_step(step + 1)
    pupil.eval()
    return fmean(losses[-max(1, stage.steps // 10) :])


def draw_batch(pool: ReturnPool, stage: Stage, generator: torch.Generator) -> Batch:
    """Scenes whose last shots are noisy, one to three of them; the heroes are seen before those."""
    clean = stage.shots - int(torch.randint(1, min(MOST_NOISY, stage.shots - 1) + 1, (), generator=generator))
    heroes = torch.randint(len(pool), (stage.batch,), generator=generator)
    seen = torch.randint(clean, (stage.batch,), generator=generator)
    others = draw_others(pool, heroes, stage.shots, generator)
    t = torch.sigmoid(NOISE_MEAN + torch.randn(stage.batch, stage.shots, generator=generator))
    t[:, :clean] = CLEAN
    positions = torch.randperm(SHOT_SPAN, generator=generator)[: stage.shots].sort().values
    if torch.rand((), generator=generator) < 0.5:  # neighbours
        positions = positions[0] + torch.arange(stage.shots)
    noise = torch.randn(stage.batch, stage.shots, *pool.latents.shape[2:], generator=generator)
    return put_together(
        pool, heroes, seen, others, noise=noise, t=t, positions=tuple(positions.tolist()), clean=clean
    )
