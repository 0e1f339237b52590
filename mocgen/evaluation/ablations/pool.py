"""Characters that are each filmed twice, one frame a shot, and scenes of returns put together from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.codec.embedded import to_unit_range
from mocgen.training.batches import Batch
from mocgen.training.compose import word_ids
from mocgen.training.looks import look_labels
from mocgen.training.world import ShotSpec, object_mask, render_shot

from ..scenes import return_scene


@dataclass(frozen=True, kw_only=True)
class ReturnPool:
    """N characters in two places each. n caption tokens."""

    back: tuple[ShotSpec, ...]  # (N,) the second shot of each
    latents: Tensor  # (N, 2, 1, C, h, w)
    objects: Tensor  # (N, 2, 1, h, w) how much of each latent the object covers
    labels: Tensor  # (N, 4) classes of shape, pattern and colours
    hidden: Tensor  # (N, 2, n) word ids of captions that say "the hero"
    named: Tensor  # (N, 2, n) word ids of captions that name the look

    def __len__(self) -> int:
        return len(self.labels)


@torch.inference_mode()
def build_pool(
    base: NativeModel, *, seed: int, characters: int, held_out: bool, on_character: Callable[[int, int], None]
) -> ReturnPool:
    """Draw, render and encode; a function of its arguments alone.

    held_out: in combinations of look and place that are kept for evaluation, or in others.
    """
    shots: list[ShotSpec] = []
    latents, objects, size = [], [], base.codec.config.size
    for number in range(characters):
        scene = return_scene(seed, number, 1, held_out=held_out)
        for shot in (scene.seen, scene.back):
            frames = torch.from_numpy(render_shot(shot, frames=1, size=size))
            latents.append(base.codec.encode(to_unit_range(frames)).float())
            mask = torch.from_numpy(object_mask(shot, frames=1, size=size))
            objects.append(F.avg_pool2d(mask, size // base.codec.config.latent_size))
            shots.append(shot)
        on_character(number + 1, characters)
    words = [shot.caption for shot in shots] + [shot.full_caption for shot in shots]
    hidden, named = word_ids(words, base.vocabulary, base.dit.config).unflatten(0, (2, characters, 2))
    return ReturnPool(
        back=tuple(shots[1::2]),
        latents=torch.stack(latents).unflatten(0, (characters, 2)),
        objects=torch.stack(objects).unflatten(0, (characters, 2)),
        labels=torch.tensor([look_labels(shot.look) for shot in shots[1::2]]),
        hidden=hidden,
        named=named,
    )


def put_together(
    pool: ReturnPool,
    heroes: Tensor,
    seen: Tensor,
    others: Tensor,
    *,
    noise: Tensor,
    t: Tensor,
    positions: tuple[int, ...],
    clean: int,
) -> Batch:
    """Scenes of S shots in which each of B heroes is seen once and comes back last, its look in no caption.

    heroes: (B,) rows of the pool. seen: (B,) in which shot. others: (B, S) rows of the characters in the
    remaining shots, whose captions name their looks. noise: (B, S, 1, C, h, w). t: (B, S) noise levels.
    """
    shots = others.shape[1]
    is_hero = torch.arange(shots) == seen[:, None]  # (B, S)
    is_hero[:, -1] = True
    rows = torch.where(is_hero, heroes[:, None], others)
    which = torch.where(is_hero, 0, (others + torch.arange(shots)) % 2)
    which[:, -1] = 1
    return Batch(
        latents=pool.latents[rows, which],
        objects=pool.objects[rows, which],
        sketches=None,
        looks=pool.labels[rows],
        noise=noise,
        t=t,
        captions=torch.where(is_hero[..., None], pool.hidden[rows, which], pool.named[rows, which]),
        prompt=None,
        shots=positions,
        clean=clean,
        frames=(0,),
    )


def draw_others(pool: ReturnPool, heroes: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Rows of other characters than the heroes: (B, S)."""
    steps = torch.randint(1, len(pool), (len(heroes), shots), generator=generator)
    return (heroes[:, None] + steps) % len(pool)
