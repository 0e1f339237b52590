"""Scenes → what a model remembers of them: rendered shots, generated shots, or a video file of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from mocgen.bundle import NativeModel
from mocgen.history import History, PastShot, read_history
from mocgen.settings import Settings
from mocgen.training.world import Look, ShotSpec, render_shot
from mocgen.video import VideoWriter, probe

from .filming import film
from .reading import decode, encode_true, read_shot
from .scenes import ReturnScene


def rendered_history(shots: Sequence[ShotSpec], model: NativeModel) -> History:
    """Rendered frames through the codec, with the captions of the scene."""
    length = model.defaults.frames / model.defaults.fps
    return History(
        shots=tuple(
            PastShot(
                index=index, caption=shot.caption, latents=encode_true(shot, model), begin=index * length
            )
            for index, shot in enumerate(shots)
        )
    )


def generated_history(scene: ReturnScene, model: NativeModel, settings: Settings) -> tuple[History, Look]:
    """Shots that the model drew one by one from complete captions, remembered under those of the scene.

    Returns them, and the look that the character was given.
    """
    past: list[PastShot] = []
    length = model.defaults.frames / model.defaults.fps
    for index, shot in enumerate((scene.seen, *scene.others)):
        (drawn,) = film(model, [shot.full_caption], settings, first=index).shots()
        past.append(replace(drawn.past, index=index, caption=shot.caption, begin=index * length))
    look = read_shot(decode(past[0].latents, model), place=scene.seen.place).match.look
    return History(shots=tuple(past)), look


def clip_history(shots: Sequence[ShotSpec], model: NativeModel, *, captions: bool = False) -> History:
    """Rendered frames in a video file, read back as `mocgen extend` does.

    captions: the shots that are found get those of the scene, as --clip-prompt would give them.
    """
    size, defaults = model.codec.config.size, model.defaults
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(
            path, width=size, height=size, fps=Fraction(defaults.fps).limit_denominator(1001), metadata={}
        ) as writer:
            for shot in shots:
                writer.write(render_shot(shot, frames=defaults.frames, size=size))
        history = read_history(probe(path), model, seconds=None)
    return history.captioned(_found_captions(shots, history, model)) if captions else history


def _found_captions(shots: Sequence[ShotSpec], history: History, model: NativeModel) -> list[str]:
    """A caption for each shot that was found: those of all shots that it shows, if a cut was missed."""
    rate = model.defaults.fps / model.defaults.frames
    begins = [int(shot.begin * rate + 0.01) for shot in history.remembered]
    spans = pairwise([*begins, len(shots)])
    return ["; ".join(shot.caption for shot in shots[begin : max(end, begin + 1)]) for begin, end in spans]
