"""Making the shots that are judged, with the loop that `generate` and `extend` use."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mocgen.bundle import NativeModel
from mocgen.film import Film
from mocgen.history import History
from mocgen.model.attention import Recorder
from mocgen.plan import make_plan
from mocgen.settings import Event, Settings, Step
from mocgen.storyboard import Scene, Shot


class StopWatch:
    """Hears the events of a film; knows how long its newest shot has been in the making."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step) and event.step == 0:
            self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the shot's first step."""
        return time.perf_counter() - self._begun


def film(
    model: NativeModel,
    captions: Sequence[str],
    settings: Settings,
    *,
    history: History | None = None,
    first: int = 0,
    watch: StopWatch | None = None,
    recorder: Recorder | None = None,
) -> Film:
    """A run over these captions. Without a history, `first` moves the seed on, so that noises differ."""
    scene = Scene(shots=tuple(Shot(caption=caption) for caption in captions))
    return Film(
        model,
        make_plan(model, scene.shots, settings),
        scene,
        seed=settings.seed + first,
        negative=settings.negative,
        history=history or History(),
        on_event=watch or StopWatch(),
        recorder=recorder,
    )
