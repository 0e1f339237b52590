"""Scenes → what a model remembers of them: rendered shots, generated shots, or a video file of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
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
    return History(
        shots=tuple(
            PastShot(index=index, caption=shot.caption, latents=encode_true(shot, model))
            for index, shot in enumerate(shots)
        )
    )


def generated_history(scene: ReturnScene, model: NativeModel, settings: Settings) -> tuple[History, Look]:
    """Shots that the model drew one by one from complete captions, remembered under those of the scene.

    Returns them, and the look that the character was given.
    """
    past = []
    for index, shot in enumerate((scene.seen, *scene.others)):
        (drawn,) = film(model, [shot.full_caption], settings, first=index).shots()
        past.append(PastShot(index=index, caption=shot.caption, latents=drawn.past.latents))
    look = read_shot(decode(past[0].latents, model), place=scene.seen.place).match.look
    return History(shots=tuple(past)), look


def clip_history(shots: Sequence[ShotSpec], model: NativeModel) -> History:
    """Rendered frames in a video file, read back as `mocgen extend` does: without any caption."""
    size, defaults = model.codec.config.size, model.defaults
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(
            path, width=size, height=size, fps=Fraction(defaults.fps).limit_denominator(1001), metadata={}
        ) as writer:
            for shot in shots:
                writer.write(render_shot(shot, frames=defaults.frames, size=size))
        return read_history(probe(path), model, seconds=None)
