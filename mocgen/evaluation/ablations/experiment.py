"""All small models of an ablation, one after another; each is kept as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.model.attention import Routing
from mocgen.training.config import Stage
from mocgen.training.optim import OptimConfig

from ..rates import Rate
from .measure import ask, draw_exact, recall, with_pasts_swapped
from .pool import ReturnPool, build_pool
from .request import AblationRequest, Trial
from .small import new_pupil, train
from .variants import Variant, find_variant

DENSE = 64  # top-k at which everything is routed
DROP_OFF, DROP_IN = 0.3, 1.0
START = OptimConfig(warmup=20, decay_from=1.0)  # the learning rate stays
GOING_ON = OptimConfig(warmup=5, decay_from=0.0)  # it falls from the first step

OnProgress = Callable[[str, int, int], None]  # part, done, of how many


@dataclass(kw_only=True)
class Experiment:
    """Trains and measures small models; `base` lends its codec, vocabulary and stem."""

    base: NativeModel
    request: AblationRequest
    seed: int
    on_progress: OnProgress
    _starts: dict[tuple[bool, int], dict[str, Tensor]] = field(default_factory=dict)

    def run(self, done: Iterable[Trial], on_trial: Callable[[Trial], None]) -> None:
        """Make every model that is not among those `done`, variant by variant."""
        there = {(trial.variant, trial.seed) for trial in done}
        missing = [
            (name, number)
            for name in self.request.variants
            for number in range(self.request.seeds)
            if (name, number) not in there
        ]
        if not missing:
            return
        pool = self._pool(self.seed, self.request.characters, held_out=False)
        asked = self._pool(self.seed + 1, self.request.trials, held_out=True)
        for name, number in missing:
            on_trial(self._trial(find_variant(name), number, pool, asked))

    def _pool(self, seed: int, characters: int, *, held_out: bool) -> ReturnPool:
        def on_character(done: int, total: int) -> None:
            self.on_progress("characters", done, total)

        return build_pool(
            self.base, seed=seed, characters=characters, held_out=held_out, on_character=on_character
        )

    def _trial(self, variant: Variant, number: int, pool: ReturnPool, asked: ReturnPool) -> Trial:
        begun = time.process_time()
        request, seed = self.request, self.seed + number
        pupil = new_pupil(self.base, variant, request, seed=seed)
        pupil.load_state_dict(self._start(variant, number, pool))
        stage = self._stage(variant, request.steps)
        on_step = self._listener(f"{variant.name}, seed {number}", stage.steps)
        loss = train(pupil, pool, stage, GOING_ON, seed=seed, on_step=on_step)
        routing = Routing(top_k=stage.top_k)
        scenes = ask(asked, request.shots)
        true, swapped = (recall(pupil, batch, routing) for batch in (scenes, with_pasts_swapped(scenes)))
        right = true.told == asked.labels  # (N, 4): shape, pattern, first and second colour
        return Trial(
            variant=variant.name,
            seed=number,
            exact=_rate(right.all(1)),
            shape=_rate(right[:, 0]),
            pattern=_rate(right[:, 1]),
            colours=_rate(right[:, 2:].all(1)),
            forgotten=_rate((swapped.told == asked.labels).all(1)),
            gain=1 - true.error / swapped.error,
            pictures=draw_exact(pupil, scenes, asked, self.base, routing, request.pictures),
            loss=loss,
            seconds=time.process_time() - begun,
        )

    def _start(self, variant: Variant, number: int, pool: ReturnPool) -> dict[str, Tensor]:
        """Weights after the start of a seed: dense, which most variants share, or sparse from the first."""
        key = (variant.schedule, number)
        if key not in self._starts:
            dense = find_variant("dense") if variant.schedule else variant
            pupil = new_pupil(self.base, dense, self.request, seed=self.seed + number)
            stage = self._stage(dense, self.request.start)
            part = f"{'dense' if variant.schedule else 'sparse'} start, seed {number}"
            on_step = self._listener(part, stage.steps)
            train(pupil, pool, stage, START, seed=1000 + self.seed + number, on_step=on_step)
            self._starts[key] = pupil.state_dict()
        return self._starts[key]

    def _stage(self, variant: Variant, steps: int) -> Stage:
        stage = Stage(steps=steps, batch=self.request.batch, shots=self.request.shots, top_k=DENSE)
        if not variant.sparse:
            return stage
        drop_off, drop_in = (DROP_OFF, DROP_IN) if variant.drops else (0.0, 0.0)
        return replace(stage, top_k=self.request.top_k, drop_off=drop_off, drop_in=drop_in)

    def _listener(self, part: str, total: int) -> Callable[[int], None]:
        return lambda done: self.on_progress(part, done, total)


def _rate(outcomes: Tensor) -> Rate:
    return Rate.of(outcomes.tolist())
