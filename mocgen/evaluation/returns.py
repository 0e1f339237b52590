"""One return of a character: its history is remembered in one way, the shot is made, and read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.history import History
from mocgen.settings import Settings
from mocgen.training.world import Look

from .filming import StopWatch, film
from .histories import clip_history, generated_history, rendered_history
from .reading import look_agreement, read_shot
from .requests import HistoryKind
from .scenes import ReturnScene
from .watch import ReturnWatch, object_tokens
from .ways import Way


@dataclass(frozen=True, kw_only=True)
class Return:
    """One generated return: what it shows and what it took."""

    agreement: dict[str, bool]  # with the look that the character had
    pixels: Tensor  # (T, H, W, 3) uint8
    density: float  # attended pairs / all pairs of the shot's queries
    found: Tensor  # (layers, heads) share of the object's queries that routed to the shot where it was seen
    flops: float  # of attention, both branches of guidance
    seconds: float  # to denoise, remember and decode the shot


class Returns:
    """Makes returns of one scene in several ways; what they share is made once."""

    def __init__(
        self, scene: ReturnScene, model: NativeModel, settings: Settings, history: HistoryKind
    ) -> None:
        self.scene, self.model, self.settings = scene, model, settings
        self._kind: HistoryKind = history
        self._shots: tuple[History, Look] | None = None

    def make(self, way: Way) -> Return:
        """The return, made in one way; all ways with the same number of shots share the noise."""
        settings = replace(self.settings, attention=way.attention, top_k=way.top_k)
        history, wanted = self._history(way)
        config, watch = self.model.dit.config, StopWatch()
        recorder = ReturnWatch(
            layers=config.depth, heads=config.heads, seen=history.shots[0].index if history.shots else None
        )
        back = self.scene.back
        caption = back.full_caption if way.named else back.caption
        first = 0 if history.shots else self.scene.gap
        run = film(
            self.model, [caption], settings, history=history, first=first, watch=watch, recorder=recorder
        )
        (shot,) = run.shots()
        seconds = watch.seconds - recorder.seconds
        match = read_shot(shot.pixels, place=back.place).match
        tokens = object_tokens(match.where, grid=config.grid, group=config.patch_frames)
        return Return(
            agreement=look_agreement(match.look, wanted),
            pixels=shot.pixels,
            density=recorder.density,
            found=recorder.routed_to_seen(tokens if tokens.any() else torch.ones_like(tokens)),
            flops=recorder.flops * (1 if run.plan.guidance == 1 else 2),
            seconds=seconds,
        )

    def _history(self, way: Way) -> tuple[History, Look]:
        """What is remembered, and the look that the character had in it."""
        scene = self.scene
        if way.past == "none":
            return History(), scene.seen.look
        if way.past == "clip":
            shots = (scene.seen, *scene.others)
            return clip_history(shots, self.model, captions=way.captions), scene.seen.look
        if self._shots is None:
            if self._kind == "generated":
                self._shots = generated_history(scene, self.model, self.settings)
            else:
                past = rendered_history((scene.seen, *scene.others), self.model)
                self._shots = (past, scene.seen.look)
        return self._shots
