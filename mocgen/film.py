"""The one loop over shots: each is denoised against the memory of all that came before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from mocgen.denoise import Guidance, ShotPlan, ShotState, denoise, finished, remember
from mocgen.history import History, PastShot
from mocgen.model.attention import Recorder
from mocgen.model.memory import ContextMemory
from mocgen.plan import Plan, shot_ends
from mocgen.settings import ContextEncoding, OnEvent, Step
from mocgen.storyboard import Scene
from mocgen.video_model import VideoModel
from mocgen_kernels import ContextLayout, Selection


class DensityMeter:
    """Adds up attended and possible (query, key) pairs; all tokens of the scene are the baseline.

    Of the passes over one and the same shots the latest counts.
    """

    def __init__(self) -> None:
        self._attended: dict[tuple[int, int], float] = {}  # by layer and tokens of the scene up to the shot

    def record(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        layout: ContextLayout,
        selection: Selection,
        *,
        scene: ContextLayout | None = None,
        contexts: Sequence[int] | None = None,
    ) -> None:
        """Count one layer's pairs; see `Recorder`."""
        self._attended[layer, (scene or layout).length] = selection.pairs()

    @property
    def density(self) -> float:
        """Attended pairs / all pairs of the scene, mean over layers and heads."""
        if not self._attended:
            return 0.0
        layers, tokens = (len({key[0] for key in self._attended}), max(key[1] for key in self._attended))
        return sum(self._attended.values()) / (layers * tokens**2)


class Watchers:
    """Several recorders as one."""

    def __init__(self, *recorders: Recorder | None) -> None:
        self._recorders = [recorder for recorder in recorders if recorder is not None]

    def record(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        layout: ContextLayout,
        selection: Selection,
        *,
        scene: ContextLayout | None = None,
        contexts: Sequence[int] | None = None,
    ) -> None:
        """Tell all of them; see `Recorder`."""
        for recorder in self._recorders:
            recorder.record(layer, q, k, layout, selection, scene=scene, contexts=contexts)


@dataclass(frozen=True, kw_only=True)
class FilmedShot:
    """A shot that is done: number in this run (from 0), what is remembered of it, its frames."""

    number: int
    past: PastShot
    pixels: Tensor  # (T, H, W, 3) uint8, on the CPU


class Film:
    """One run: the model, the plan, and the memory that grows shot by shot."""

    def __init__(
        self,
        model: VideoModel,
        plan: Plan,
        scene: Scene,
        *,
        seed: int,
        negative: str,
        history: History,
        on_event: OnEvent,
        recorder: Recorder | None = None,
    ) -> None:
        self.model, self.plan, self.scene = model, plan, scene
        self.history, self.on_event, self.recorder = history, on_event, recorder
        self.meter = DensityMeter()
        self._joint = not plan.routing.causal
        in_sequence = self._joint and model.past_in_sequence
        self.memory = None if in_sequence else ContextMemory(model.layers)
        self._seed = seed
        captions = [*(shot.caption for shot in history.shots), *(shot.caption for shot in scene.shots)]
        self._words = model.read(captions, prompt=scene.prompt or history.prompt, negative=negative)
        lengths = [shot.latents.shape[1] for shot in history.shots]
        self._starts = list(accumulate((*lengths, *plan.latents), initial=0))
        ends = [0, *shot_ends(plan)]
        self._begins = [round(history.seconds + float(end / plan.fps), 3) for end in ends]
        self._past: list[ShotState] = []  # finished shots that stand in the sequence

    def shots(self) -> Iterator[FilmedShot]:
        """Make the shots one after another; with non-causal routing all of them at once."""
        self._recall()
        decode = self.model.decoder([shot.latents for shot in self.history.shots])
        numbers = range(len(self.scene.shots))
        groups = [list(numbers)] if self._joint else [[n] for n in numbers]
        for turn, group in enumerate(groups):
            plans = [self._shot_plan(number) for number in group]
            latents = self._denoise(plans, group, turn, len(groups))
            if turn + 1 < len(groups):
                self._remember(plans, latents)
            for number, plan, shot in zip(group, plans, latents, strict=True):
                past = PastShot(
                    index=plan.index,
                    caption=self.scene.shots[number].caption,
                    latents=shot.float().cpu(),
                    begin=self._begins[number],
                )
                yield FilmedShot(number=number, past=past, pixels=decode(shot[0]))

    def _denoise(
        self, plans: Sequence[ShotPlan], group: Sequence[int], turn: int, turns: int
    ) -> list[Tensor]:
        steps = self.plan.steps

        def on_step(step: int) -> None:
            captions = "; ".join(self.scene.shots[n].caption for n in group)
            self.on_event(Step(shot=turn + 1, shots=turns, step=step, steps=steps, caption=captions))

        on_step(0)
        return denoise(
            self.model.denoiser(self.plan.canvas),
            plans,
            prompt=self._new_prompt(),
            steps=steps,
            guidance=Guidance(scale=self.plan.guidance, negative=self._words.negative),
            routing=self.plan.routing,
            memory=self.memory,
            past=self._past,
            watch=lambda step: Watchers(self.recorder, self.meter) if step == steps - 1 else self.recorder,
            on_step=on_step,
        )

    def _recall(self) -> None:
        """Put the history into the memory, or where the shots will see it in their own sequence."""
        past = self.history.shots
        for done, shot in enumerate(past):
            self.on_event(ContextEncoding(shots_done=done, shots=len(past)))
            plan = ShotPlan(
                index=shot.index,
                start=self._starts[done],
                caption=self._words.captions[done],
                frames=shot.latents.shape[1],
                seed=0,
            )
            self._remember([plan], [shot.latents])

    def _remember(self, plans: Sequence[ShotPlan], latents: Sequence[Tensor]) -> None:
        model = self.model.denoiser(self.plan.canvas)
        states = finished(model, plans, latents, context_noise=self.plan.context_noise)
        if self.memory is None:
            self._past += states
            return
        remember(
            model,
            states,
            prompt=self._new_prompt(),
            routing=self.plan.routing,
            memory=self.memory,
            recorder=self.meter,
        )

    def _new_prompt(self) -> Tensor | None:
        """The global prompt goes in front of the first shots only; later ones find it in the memory."""
        return self._words.prompt if self.memory is None or self.memory.layout is None else None

    def _shot_plan(self, number: int) -> ShotPlan:
        index, place = self.history.next_index + number, len(self.history.shots) + number
        return ShotPlan(
            index=index,
            start=self._starts[place],
            caption=self._words.captions[place],
            frames=self.plan.latents[number],
            seed=self.model.noise_seed(self._seed, index),
        )
