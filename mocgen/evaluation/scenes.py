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


def return_scene(seed: int, number: int, gap: int, *, held_out: bool = True) -> ReturnScene:
    """The scene of this number; a function of its arguments alone.

    held_out: the character is seen and comes back in places in which its look was never trained on; False:
    in others.
    """
    rng = np.random.default_rng((seed, gap, number))
    hero = _draw_look(rng, held_out)
    first, last = rng.permutation(_places(hero, held_out))[:2]
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
    look = _draw_look(rng, True)
    return _shot(look, str(rng.choice(_places(look, True))), rng)


def rollout_shots(seed: int, number: int, shots: int) -> tuple[ShotSpec, ...]:
    """A hero's shot, then `shots` more in ever other places; it comes back in every second one."""
    rng = np.random.default_rng((seed, number, shots))
    hero = _draw_look(rng, True)
    made = [_hidden(_shot(hero, PLACES[rng.integers(len(PLACES))], rng), rng)]
    for index in range(shots):
        elsewhere = [place for place in PLACES if place != made[-1].place]
        look = hero if index % 2 else sample_look(rng)
        shot = _shot(look, elsewhere[rng.integers(len(elsewhere))], rng)
        made.append(_hidden(shot, rng) if index % 2 else shot)
    return tuple(made)


@lru_cache(maxsize=2)
def _looks(held_out: bool) -> tuple[Look, ...]:
    """Looks with at least two places on one side of the split."""
    return tuple(look for look in all_looks() if len(_places(look, held_out)) >= 2)


def _draw_look(rng: np.random.Generator, held_out: bool) -> Look:
    """Drawn like `sample_look` does: uniform over patterns, not over looks."""
    looks = _looks(held_out)
    pattern = sample_look(rng).pattern
    fitting = [look for look in looks if look.pattern == pattern] or list(looks)
    return fitting[rng.integers(len(fitting))]


def _places(look: Look, held_out: bool) -> list[str]:
    return [place for place in PLACES if is_held_out(look, place) == held_out]


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
