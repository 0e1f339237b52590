"""What is asked of a model: shots whose combination of look and place it was never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mocgen.training.world import (
    MOTIONS,
    PLACES,
    Look,
    Pose,
    ShotSpec,
    captions,
    is_held_out,
    sample_look,
    words,
)
from mocgen.training.world.scenes import DIAMETER

from .templates import all_looks


@dataclass(frozen=True, kw_only=True)
class ReturnScene:
    """A character is seen, others follow, and it comes back. Its look is in no caption.

    `back` carries both captions: "the hero …", and one that names the look.
    """

    seen: ShotSpec
    others: tuple[ShotSpec, ...]
    back: ShotSpec

    @property
    def gap(self) -> int:
        """How many shots back the character was seen; 1: in the shot before."""
        return len(self.others) + 1


def return_scene(seed: int, number: int, gap: int) -> ReturnScene:
    """The scene of this number; a function of its arguments alone."""
    rng = np.random.default_rng((seed, gap, number))
    hero = _held_out_look(rng)
    first, last = rng.permutation(_held_out_places(hero))[:2]
    seen = _hidden(_shot(hero, str(first), rng), rng)
    others = []
    for _ in range(gap - 1):
        look = sample_look(rng)
        while look == hero:
            look = sample_look(rng)
        others.append(_shot(look, PLACES[rng.integers(len(PLACES))], rng))
    back = _shot(hero, str(last), rng, size=seen.pose.size)
    return ReturnScene(seen=seen, others=tuple(others), back=_hidden(back, rng))


def captioned_shot(seed: int, number: int) -> ShotSpec:
    """A shot with a complete caption; a function of its arguments alone."""
    rng = np.random.default_rng((seed, number))
    look = _held_out_look(rng)
    return _shot(look, str(rng.choice(_held_out_places(look))), rng)


def rollout_shots(seed: int, number: int, shots: int) -> tuple[ShotSpec, ...]:
    """A hero's shot, then `shots` more in ever other places; it comes back in every second one."""
    rng = np.random.default_rng((seed, number, shots))
    hero = _held_out_look(rng)
    made = [_hidden(_shot(hero, PLACES[rng.integers(len(PLACES))], rng), rng)]
    for index in range(shots):
        elsewhere = [place for place in PLACES if place != made[-1].place]
        look = hero if index % 2 else sample_look(rng)
        shot = _shot(look, elsewhere[rng.integers(len(elsewhere))], rng)
        made.append(_hidden(shot, rng) if index % 2 else shot)
    return tuple(made)


@lru_cache(maxsize=1)
def _held_out_looks() -> tuple[Look, ...]:
    """Looks with at least two places in which they were never trained on."""
    return tuple(look for look in all_looks() if len(_held_out_places(look)) >= 2)


def _held_out_look(rng: np.random.Generator) -> Look:
    """Drawn like `sample_look` does: uniform over patterns, not over looks."""
    looks = _held_out_looks()
    drawn = sample_look(rng).pattern
    fitting = [look for look in looks if look.pattern == drawn] or looks
    return fitting[rng.integers(len(fitting))]


def _held_out_places(look: Look) -> list[str]:
    return [place for place in PLACES if is_held_out(look, place)]


def _shot(look: Look, place: str, rng: np.random.Generator, *, size: float | None = None) -> ShotSpec:
    """A shot with its caption complete."""
    motions = [motion for motion in MOTIONS if motion != "spins" or _turning_shows(look)]
    motion = motions[rng.integers(len(motions))]
    pose = Pose(
        x=rng.uniform(-0.06, 0.06),
        lift=rng.uniform(-0.02, 0.04),
        size=rng.uniform(*DIAMETER) if size is None else size,
        phase=rng.uniform(),
        backdrop=int(rng.integers(2**31)),
    )
    subject = captions.with_article(captions.look_phrase(look, rng))
    caption = captions.sentence(subject, place=place, motion=motion, rng=rng)
    return ShotSpec(look=look, place=place, motion=motion, pose=pose, caption=caption, full_caption=caption)


def _turning_shows(look: Look) -> bool:
    return look.pattern != "plain" or look.shape not in ("ball", "ring")


def _hidden(shot: ShotSpec, rng: np.random.Generator) -> ShotSpec:
    """The shot with "the hero" in the place of its look."""
    name = words.HERO_NAMES[rng.integers(len(words.HERO_NAMES))]
    return ShotSpec(
        look=shot.look,
        place=shot.place,
        motion=shot.motion,
        pose=shot.pose,
        caption=captions.sentence(name, place=shot.place, motion=shot.motion, rng=rng),
        full_caption=shot.full_caption,
    )
