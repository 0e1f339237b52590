"""The one loop over shots: each is denoised against the memory of all that came before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.codec.embedded import to_pixels
from mocgen.denoise import Guidance, ShotPlan, denoise, remember
from mocgen.history import History, PastShot
from mocgen.model.attention import Recorder
from mocgen.model.memory import ContextMemory
from mocgen.plan import Plan
from mocgen.settings import ContextEncoding, OnEvent, Step
from mocgen.storyboard import Scene
from mocgen_kernels import ContextLayout, Selection


class DensityMeter:
    """Adds up attended and possible (query, key) pairs; all tokens of the scene are the baseline."""

    def __init__(self) -> None:
        self._attended = 0.0
        self._layers: set[int] = set()
        self._tokens = 0

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
        self._attended += selection.pairs()
        self._layers.add(layer)
        self._tokens = max(self._tokens, (scene or layout).length)

    @property
    def density(self) -> float:
        """Attended pairs / all pairs of the scene, mean over layers and heads."""
        return self._attended / (len(self._layers) * self._tokens**2) if self._layers else 0.0


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
        model: NativeModel,
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
        self.memory = ContextMemory(model.dit.config.depth)
        self._seed, self._negative = seed, self._ids(negative)
        prompt = scene.prompt or history.prompt
        self._prompt = self._ids(prompt) if prompt else None

    def shots(self) -> Iterator[FilmedShot]:
        """Make the shots one after another; with non-causal routing all of them at once."""
        self._recall()
        numbers = range(len(self.scene.shots))
        groups = [[n] for n in numbers] if self.plan.routing.causal else [list(numbers)]
        for turn, group in enumerate(groups):
            plans = [self._shot_plan(number) for number in group]

            def on_step(step: int, turn: int = turn, group: list[int] = group) -> None:
                captions = "; ".join(self.scene.shots[n].caption for n in group)
                self.on_event(
                    Step(shot=turn + 1, shots=len(groups), step=step, steps=self.plan.steps, caption=captions)
                )

            on_step(0)
            latents = denoise(
                self.model.dit,
                plans,
                prompt=self._new_prompt(),
                steps=self.plan.steps,
                guidance=Guidance(scale=self.plan.guidance, negative=self._negative),
                routing=self.plan.routing,
                memory=self.memory,
                recorder=self.recorder,
                on_step=on_step,
            )
            self._remember(plans, latents)
            for number, plan, shot in zip(group, plans, latents, strict=True):
                past = PastShot(
                    index=plan.index, caption=self.scene.shots[number].caption, latents=shot.float().cpu()
                )
                yield FilmedShot(number=number, past=past, pixels=self.decode(shot[0]))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (T, C, h, w) → frames (T, H, W, 3) uint8, on the CPU."""
        weight = next(self.model.codec.parameters())
        return to_pixels(self.model.codec.decode(latents.to(weight.device, weight.dtype))).cpu()

    def _recall(self) -> None:
        """Put the history into the memory."""
        past = self.history.shots
        for done, shot in enumerate(past):
            self.on_event(ContextEncoding(shots_done=done, shots=len(past)))
            plan = ShotPlan(
                index=shot.index, caption=self._ids(shot.caption), frames=shot.latents.shape[1], seed=0
            )
            self._remember([plan], [shot.latents])

    def _remember(self, plans: Sequence[ShotPlan], latents: Sequence[Tensor]) -> None:
        remember(
            self.model.dit,
            plans,
            latents,
            prompt=self._new_prompt(),
            routing=self.plan.routing,
            memory=self.memory,
            recorder=self.meter,
        )

    def _new_prompt(self) -> Tensor | None:
        """The global prompt goes in front of the first shots only; later ones find it in the memory."""
        return self._prompt if self.memory.layout is None else None

    def _shot_plan(self, number: int) -> ShotPlan:
        index = self.history.next_index + number
        return ShotPlan(
            index=index,
            caption=self._ids(self.scene.shots[number].caption),
            frames=self.plan.frames,
            seed=(self._seed * 1_000_003 + index) % 2**63,
        )

    def _ids(self, text: str) -> Tensor:  # (1, N)
        config = self.model.dit.config
        ids = self.model.vocabulary.padded(text, multiple=config.caption_multiple, limit=config.caption_limit)
        return torch.tensor([ids], device=next(self.model.dit.parameters()).device)
