"""Training of the DiT by flow matching, from single shots to sparsely routed scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.contexts import PackedScene
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.layers import Stem
from mocgen.model.sketch import RADIUS, SketchModel
from mocgen.sampling import add_noise

from .batches import Batch, Batches
from .config import DiTTraining, Stage
from .looks import LookTeacher, shows_object
from .optim import Optimizers
from .paint import PaintTeacher
from .ranks import Ranks
from .recall import RecallTeacher
from .sharding import shard, whole
from .state import Deadline, Paused, averaged, load_state, save_state, step_generator
from .stem import stem_error


class Watcher(Protocol):
    """Follows the training of a model. Steps count from 1."""

    def step(self, step: int, loss: float, norm: float, model: MoCDiT) -> None:
        """Hear a step's loss, the norm of its gradient, and the model after it."""

    def wants_probe(self, step: int) -> bool:
        """Whether `step` will run the model."""

    def wants_sample(self, step: int) -> bool:
        """Whether `sample` is to be called after this step."""

    def sample(self, step: int, model: MoCDiT) -> None:
        """Look at a model with averaged weights."""


class Pupil(nn.Module):
    """The model, and what teaches it beside the pictures."""

    def __init__(
        self, dit: MoCDiT, *, looks: bool = False, recall: bool = False, paint: bool = False
    ) -> None:
        """looks: whether hidden states are to tell how objects look; recall: heads, what to retrieve;
        paint: the painter, how objects look where they are.
        """
        super().__init__()
        self.dit = dit
        self.looks = LookTeacher(dit.config) if looks else None
        self.recall = RecallTeacher(dit.config) if recall else None
        self.paint = PaintTeacher() if paint else None
        for teacher in (self.looks, self.recall, self.paint):
            if teacher is not None:
                teacher.watch(dit)

    def forward(
        self,
        batch: Batch,
        stage: Stage,
        generator: torch.Generator,
        training: DiTTraining,
        *,
        all_parts: bool = False,
    ) -> Tensor:
        """The loss of a batch.

        all_parts: every classifier has a part in it, if only of zero; processes that share a model must all
        have gradients of the same weights.
        """
        loss = step_loss(self, batch, stage, generator, training)
        if all_parts and self.looks is not None:
            loss = loss + torch.stack([p.sum() * 0 for p in self.looks.parameters()]).sum()
        return loss


def dit_optimizers(pupil: Pupil, training: DiTTraining) -> Optimizers:
    """Muon for the matrices inside blocks, AdamW for embeddings, projections and convolutions."""
    names = [
        name
        for name, parameter in pupil.named_parameters()
        if name.startswith("dit.blocks.") and parameter.ndim == 2 and "modulation" not in name
    ]
    return Optimizers(pupil, names, training.optim)


def freeze_all_but_attention(model: MoCDiT) -> None:
    """Let only the attention layers learn."""
    model.requires_grad_(False)
    for block in model.blocks:
        block.attention.requires_grad_(True)


def stage_at(training: DiTTraining, step: int) -> Stage:
    """The stage of the curriculum that a step belongs to."""
    for stage in training.stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return training.stages[-1]


def step_loss(
    pupil: Pupil, batch: Batch, stage: Stage, generator: torch.Generator, training: DiTTraining
) -> Tensor:
    """The flow loss, and the weighted ones of painting, and of looks and retrieval where they are known."""
    loss, scene = flow_loss(
        pupil.dit,
        batch,
        stage,
        generator,
        object_weight=training.object_weight,
        stem_weight=training.stem_weight,
    )
    if pupil.paint is not None:
        seeing = pupil.dit.stem if training.stem_weight else None
        loss = loss + training.paint_weight * pupil.paint.loss(batch, seeing)
    if batch.looks is None:
        return loss
    if pupil.looks is not None:
        loss = loss + training.look_weight * pupil.looks.loss(scene, batch.objects, batch.looks, batch.clean)
    if pupil.recall is not None:
        covered = shows_object(batch.objects, pupil.dit.config)
        loss = loss + training.recall_weight * pupil.recall.loss(scene, covered, batch.looks, batch.clean)
    return loss


def flow_loss(
    model: MoCDiT,
    batch: Batch,
    stage: Stage,
    generator: torch.Generator,
    *,
    object_weight: float = 1.0,
    stem_weight: float = 0.0,
) -> tuple[Tensor, PackedScene]:
    """Squared error of the predicted clean latents, weighted by 1 / ((1 − t)² + 0.05), noisy shots only.

    The weight makes it the error of the velocity (x − x_t) / (1 − t), bounded where t is near 1. Latents
    of the object count `object_weight` times as much as those of the background. With a `stem_weight`,
    what the model's stem sees in the prediction counts too, see `stem_error`. Also returns the layout.
    """
    shots = [
        NoisyShot(
            index=position,
            caption=batch.captions[:, s],
            latents=add_noise(batch.latents[:, s], batch.noise[:, s], batch.t[:, s]),
            t=batch.t[:, s],
            wanted=batch.frames if s >= batch.clean else (),
            sketch=batch.sketches[:, s] if batch.sketches is not None and s >= batch.clean else None,
        )
        for s, position in enumerate(batch.shots)
    ]
    routing = Routing(top_k=stage.top_k, drop_off=stage.drop_off, drop_in=stage.drop_in)
    with torch.autocast(batch.latents.device.type, torch.bfloat16):
        outputs, scene = model.run(shots, prompt=batch.prompt, routing=routing, generator=generator)
    predicted = torch.stack(outputs[batch.clean :], dim=1).float()  # (B, noisy shots, frames, C, h, w)
    target = batch.latents[:, batch.clean :, list(batch.frames)]
    objects = batch.objects[:, batch.clean :, list(batch.frames), None]  # (B, noisy shots, frames, 1, h, w)
    weight = 1 + (object_weight - 1) * objects
    error = ((predicted - target).square() * weight).flatten(2).mean(-1) / weight.mean()  # (B, noisy shots)
    t = batch.t[:, batch.clean :]
    loss = (error / ((1 - t).square() + 0.05)).mean()
    if stem_weight:
        seen = stem_error(model.stem, predicted.flatten(0, 1), target.flatten(0, 1))[:, :, None]
        seen = (seen * weight.flatten(0, 1)).flatten(1).mean(-1) / weight.mean()
        # where all is noise the prediction is a mean of pictures, unless a sketch says which one is wanted
        share = t if batch.sketches is None else t.maximum(_told(batch.sketches[:, batch.clean :]))
        loss = loss + stem_weight * (share.flatten() * seen).mean()
    return loss, scene


def _told(sketches: Tensor) -> Tensor:
    """1 for sketches (B, S, T, 6) that say something, else 0: (B, S)."""
    return (sketches[:, :, 0, RADIUS] > 0).float()


def backward(
    pupil: Pupil, batches: Batches, training: DiTTraining, *, seed: int, step: int, ranks: Ranks
) -> float:
    """Add the gradients of this process's batches of one step, averaged, and return their mean loss."""
    stage, total = stage_at(training, step), 0.0
    for number in range(stage.accumulate):
        generator = step_generator(seed, step, ranks.number * stage.accumulate + number)
        batch = batches.draw(stage, generator).to(ranks.device)
        loss = pupil(batch, stage, generator, training, all_parts=ranks.sharded)
        (loss / stage.accumulate).backward()
        total += loss.item() / stage.accumulate
    return total


def train_dit(
    config: DiTConfig,
    training: DiTTraining,
    start: MoCDiT | None,
    batches: Batches,
    *,
    seed: int,
    ranks: Ranks,
    state: Path,
    save_every: int,
    only_attention: bool,
    watcher: Watcher,
    stem: Stem | None = None,
    frozen_stem: bool = False,
    sketcher: SketchModel | None = None,
    deadline: Deadline,
) -> MoCDiT:
    """Train a DiT, new or from the weights of `start`, through all stages; returns it with averaged weights.

    A `stem` and a `sketcher` that have learned already are taken; `frozen_stem`: the stem is left as it is,
    as the sketcher always is. Of several processes the first saves the state.

    Goes on from `state` if that file exists, with the same result as an uninterrupted run. Raises Paused
    at the deadline.
    """
    torch.manual_seed(seed)
    model = MoCDiT(config).train()
    if start is not None:
        model.load_state_dict(start.state_dict())
    if stem is not None:
        model.stem.load_state_dict(stem.state_dict())
    if frozen_stem:
        model.stem.requires_grad_(False)
    if config.sketch_frames:
        if sketcher is not None:
            model.sketcher.load_state_dict(sketcher.state_dict())
        model.sketcher.requires_grad_(False)
    if only_attention:
        freeze_all_but_attention(model)
    pupil = Pupil(
        model,
        looks=training.look_weight > 0,
        recall=training.recall_weight > 0,
        paint=training.paint_weight > 0,
    ).to(ranks.device)
    if ranks.sharded:
        shard(pupil, model.blocks)
    optimizers = dit_optimizers(pupil, training)
    done = load_state(state, pupil, optimizers) if state.exists() else 0
    for step in range(done, training.steps):
        loss = backward(pupil, batches, training, seed=seed, step=step, ranks=ranks)
        loss = ranks.average_gradients(pupil.parameters(), loss)
        norm = optimizers.step(step, training.steps)
        probed = whole_model(pupil) if ranks.sharded and watcher.wants_probe(step + 1) else model
        watcher.step(step + 1, loss, norm, probed)
        pause = deadline.passed  # read once: what it says here is what is saved
        if (step + 1) % save_every == 0 or step + 1 == training.steps or pause:
            save_state(state, pupil, optimizers, step + 1, write=ranks.first)
        if watcher.wants_sample(step + 1):
            watcher.sample(step + 1, with_average(pupil, optimizers))
        if pause:
            raise Paused
    return with_average(pupil, optimizers)


def whole_model(pupil: Pupil) -> MoCDiT:
    """A copy on the CPU of a model that is split over processes, which must all call it."""
    copy = MoCDiT(pupil.dit.config)
    copy.load_state_dict({name: whole(value) for name, value in pupil.dit.state_dict().items()})
    return copy


def with_average(pupil: Pupil, optimizers: Optimizers) -> MoCDiT:
    """A copy of the model with averaged weights, on the CPU, ready to sample."""
    copy = MoCDiT(pupil.dit.config)
    weights = averaged(pupil, optimizers)
    copy.load_state_dict(
        {name.removeprefix("dit."): value for name, value in weights.items() if name.startswith("dit.")}
    )
    return copy.eval()
