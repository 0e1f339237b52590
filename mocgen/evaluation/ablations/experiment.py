"""Train a small model on returns, in one variant, and measure what it recalls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.errors import UsageError
from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.sampling import add_noise, euler_step, noise_levels
from mocgen.training.optim import OptimConfig, Optimizers

from ..rates import Rate, mean
from ..reading import decode, look_agreement, read_shot
from .attention import AblatedAttention
from .pool import ReturnPool, build_pool
from .variants import NAMES, Variant, find_variant

DENSE = 64  # top-k at which everything is routed
SHARE_DENSE = 0.6  # of the steps, under a schedule
DROP_OFF, DROP_IN = 0.3, 1.0
NOISY_SHARE = 0.3  # of the shots before the return
NOISE_MEAN = -0.7

OnProgress = Callable[[str, int, int], None]  # part, done, of how many


@dataclass(frozen=True, kw_only=True)
class AblationRequest:
    """What to train and measure. Raises UsageError for what makes no sense."""

    variants: tuple[str, ...] = NAMES
    seeds: int = 3
    steps: int = 800
    batch: int = 16
    scenes: int = 3000  # to train on
    trials: int = 64  # returns to read
    gap: int = 5
    top_k: int = 2
    width: int = 192
    depth: int = 4
    sampling_steps: int = 12

    def __post_init__(self) -> None:
        for name in self.variants:
            find_variant(name)
        for name in ("seeds", "steps", "batch", "scenes", "trials", "gap", "top_k", "sampling_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} must be 1 at least, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One small model: its variant, seed, recall, and mean loss of its last steps."""

    variant: str
    seed: int
    exact: Rate
    colours: Rate
    loss: float


@dataclass(frozen=True, kw_only=True)
class AblationReport:
    """All small models."""

    request: AblationRequest
    trials: tuple[Trial, ...]

    def spread(self, variant: str, aspect: str) -> tuple[float, float]:
        """Mean and standard deviation over seeds of the recall of "exact" looks or "colours"."""
        values = [getattr(trial, aspect).value for trial in self.trials if trial.variant == variant]
        return fmean(values), stdev(values) if len(values) > 1 else 0.0


def run_ablations(
    base: NativeModel, request: AblationRequest, *, seed: int, on_progress: OnProgress
) -> AblationReport:
    """Train and measure every variant with every seed; `base` lends its codec and vocabulary."""

    def rendering(done: int, total: int) -> None:
        on_progress("scenes", done, total)

    pool = build_pool(
        base, seed=seed, scenes=request.scenes, gap=request.gap, held_out=False, on_scene=rendering
    )
    asked = build_pool(
        base, seed=seed + 1, scenes=request.trials, gap=request.gap, held_out=True, on_scene=rendering
    )
    trials = []
    for name in request.variants:
        for number in range(request.seeds):

            def stepped(done: int, name: str = name, number: int = number) -> None:
                on_progress(f"{name}, seed {number}", done, request.steps)

            variant = find_variant(name)
            model, loss = train_small(base, pool, variant, request, seed=seed + number, on_step=stepped)
            found = [look_agreement(*pair) for pair in _read(model, base, asked, variant, request)]
            trials.append(
                Trial(
                    variant=name,
                    seed=number,
                    exact=Rate.of(one["exact"] for one in found),
                    colours=Rate.of(one["colours"] for one in found),
                    loss=loss,
                )
            )
    return AblationReport(request=request, trials=tuple(trials))


def small_model(base: NativeModel, variant: Variant, request: AblationRequest) -> MoCDiT:
    """A model with a token for every patch of one frame, and attention of the variant."""
    head = request.width // 4
    of_shot = head // 4 // 2 * 2
    of_row = (head - of_shot) // 2
    config = DiTConfig(
        width=request.width,
        depth=request.depth,
        heads=4,
        vocabulary=len(base.vocabulary),
        latent_channels=base.dit.config.latent_channels,
        latent_size=base.dit.config.latent_size,
        patch_frames=1,
        refine_width=48,
        refine_blocks=1,
        rope_axes=(of_shot, 0, of_row, of_row),  # one frame has no time
    )
    model = MoCDiT(config)
    for layer, block in enumerate(model.blocks):
        block.attention = AblatedAttention(config.width, config.heads, layer, variant)
    return model


def train_small(
    base: NativeModel,
    pool: ReturnPool,
    variant: Variant,
    request: AblationRequest,
    *,
    seed: int,
    on_step: Callable[[int], None],
) -> tuple[MoCDiT, float]:
    """A model trained from scratch, and the mean loss of the last tenth of its steps."""
    torch.manual_seed(seed)
    model = small_model(base, variant, request).train()
    matrices = [n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    optimizers = Optimizers(model, [n for n in matrices if "modulation" not in n], OptimConfig())
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(request.steps):
        on_step(step)
        rows = torch.randint(len(pool.latents), (request.batch,), generator=generator)
        model.zero_grad(set_to_none=True)
        loss = _loss(model, pool, rows, _routing(variant, request, step), generator)
        loss.backward()
        optimizers.step(step, request.steps)
        losses.append(float(loss.detach()))
    on_step(request.steps)
    return model.eval(), mean(losses[-max(1, request.steps // 10) :])


def _routing(variant: Variant, request: AblationRequest, step: int) -> Routing:
    dense = not variant.sparse or (variant.schedule and step < SHARE_DENSE * request.steps)
    if dense:
        return Routing(top_k=DENSE)
    return Routing(top_k=request.top_k, drop_off=DROP_OFF, drop_in=DROP_IN)


def _loss(
    model: MoCDiT, pool: ReturnPool, rows: Tensor, routing: Routing, generator: torch.Generator
) -> Tensor:
    """Velocity error of the noisy shots: always the return, and some of those before it."""
    clean = pool.latents[rows]  # (B, S, 1, C, h, w)
    shape = clean.shape[:2]
    noisy = torch.rand(shape, generator=generator) < NOISY_SHARE
    noisy[:, -1] = True
    drawn = torch.sigmoid(NOISE_MEAN + torch.randn(shape, generator=generator))
    t = torch.where(noisy, drawn, torch.ones(shape))
    noise = torch.randn(clean.shape, generator=generator)
    shots = [
        NoisyShot(
            index=s,
            caption=pool.captions[rows, s],
            latents=add_noise(clean[:, s], noise[:, s], t[:, s]),
            t=t[:, s],
        )
        for s in range(shape[1])
    ]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(shots, routing=routing, generator=generator)
    error = (torch.stack(outputs, dim=1).float() - clean).square().flatten(2).mean(-1)  # (B, S)
    weight = noisy / ((1 - t).square() + 0.05)
    return (error * weight).sum() / noisy.sum()


@torch.inference_mode()
def _read(
    model: MoCDiT, base: NativeModel, asked: ReturnPool, variant: Variant, request: AblationRequest
) -> Sequence[tuple]:
    """For every return that is asked for, the look that was drawn and the one that should have been."""
    routing = Routing(top_k=request.top_k if variant.sparse else DENSE)
    levels = noise_levels(request.sampling_steps).tolist()
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for rows in torch.arange(len(asked.latents)).split(request.batch):
        past, x = asked.latents[rows, :-1], torch.randn(asked.latents[rows, -1].shape, generator=generator)
        for t, t_next in pairwise(levels):
            shots = [
                NoisyShot(
                    index=s, caption=asked.captions[rows, s], latents=past[:, s], t=torch.ones(len(rows))
                )
                for s in range(past.shape[1])
            ]
            caption = asked.captions[rows, past.shape[1]]
            back = NoisyShot(index=past.shape[1], caption=caption, latents=x, t=torch.full((len(rows),), t))
            x = euler_step(x, model([*shots, back], routing=routing)[-1].float(), t, t_next)
        for row, latents in zip(rows.tolist(), x, strict=True):
            scene = asked.scenes[row]
            pixels = decode(latents[None], base)
            pairs.append((read_shot(pixels, place=scene.back.place).match.look, scene.back.look))
    return pairs
