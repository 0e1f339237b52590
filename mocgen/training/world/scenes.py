"""Drawing scenes: a hero that comes back, other objects in between, changing places and motions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mocgen.training.world import captions
from mocgen.training.world.camera import fitting_cameras
from mocgen.training.world.casts import reference
from mocgen.training.world.specs import (
    COLORS,
    MOTIONS,
    PATTERNS,
    PLACES,
    SHAPES,
    Look,
    Pose,
    SceneSpec,
    ShotSpec,
    is_held_out,
)
from mocgen.training.world.variety import PLAIN, Variety

HERO_RETURNS = 0.65
PLACE_STAYS = 0.25
NAMED_IN_FIRST_SHOT = 0.5
NAMED_IN_PROMPT = 0.25
DIAMETER = (0.36, 0.48)  # in frame widths


@dataclass(frozen=True, kw_only=True)
class _Past:
    """What the shots so far decide about the next one."""

    hero: Look
    hero_size: float
    shots: tuple[ShotSpec, ...]


def sample_look(rng: np.random.Generator) -> Look:
    """A look, uniform over shapes, patterns and (ordered pairs of different) colours."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    color, color2 = rng.choice(len(COLORS), size=2, replace=False)
    return Look(
        shape=SHAPES[rng.integers(len(SHAPES))],
        pattern=pattern,
        color=COLORS[color],
        color2=None if pattern == "plain" else COLORS[color2],
    )


def _open_places(look: Look, held_out: bool) -> list[str]:
    return [place for place in PLACES if is_held_out(look, place) == held_out]


def _sample_look_with_places(rng: np.random.Generator, held_out: bool, places: int) -> Look:
    """A look that has at least `places` places on the wanted side of the split."""
    while True:
        look = sample_look(rng)
        if len(_open_places(look, held_out)) >= places:
            return look


def _sample_place(look: Look, past: _Past, held_out: bool, rng: np.random.Generator) -> tuple[str, int]:
    """(place, background seed); both stay those of the previous shot with probability PLACE_STAYS."""
    open_places = _open_places(look, held_out)
    if past.shots:
        last = past.shots[-1]
        if last.place in open_places and rng.random() < PLACE_STAYS:
            return last.place, last.pose.backdrop
        open_places = [place for place in open_places if place != last.place] or open_places
    return open_places[rng.integers(len(open_places))], int(rng.integers(2**31))


def _sample_motion(look: Look, past: _Past, rng: np.random.Generator) -> str:
    """Another motion than before; an object on which a rotation cannot be seen does not spin."""
    unseen = {"spins"} if look.pattern == "plain" and look.shape in ("ball", "ring") else set()
    if past.shots:
        unseen.add(past.shots[-1].motion)
    motions = [motion for motion in MOTIONS if motion not in unseen]
    return motions[rng.integers(len(motions))]


def _draw_shot(
    look: Look, size: float, past: _Past, held_out: bool, rng: np.random.Generator, *, moving: float = 0.0
) -> ShotSpec:
    """A shot of this look after `past`, with the same full caption twice; `moving`: share of camera moves."""
    place, backdrop = _sample_place(look, past, held_out, rng)
    motion = _sample_motion(look, past, rng)
    pose = Pose(
        x=rng.uniform(-0.06, 0.06),
        lift=rng.uniform(-0.02, 0.04),
        size=size,
        phase=rng.uniform(),
        backdrop=backdrop,
    )
    camera = ""
    if moving and rng.random() < moving:
        cameras = fitting_cameras(motion)
        camera = cameras[rng.integers(len(cameras))]
    full = captions.full_caption(look, place, motion, rng, camera=camera)
    return ShotSpec(
        look=look, place=place, motion=motion, pose=pose, caption=full, full_caption=full, camera=camera
    )


def _sample_shot(past: _Past, *, named: bool, held_out: bool, rng: np.random.Generator) -> ShotSpec:
    """The next shot; `named`: the hero's look is in the first caption."""
    is_hero = not past.shots or rng.random() < HERO_RETURNS
    look, size = past.hero, past.hero_size
    if not is_hero:
        size = rng.uniform(*DIAMETER)
        while look == past.hero:
            look = _sample_look_with_places(rng, held_out, places=1)
    shot = _draw_shot(look, size, past, held_out, rng)
    caption = shot.full_caption
    if is_hero and not past.shots and named:
        caption = captions.introduction(look, shot.place, shot.motion, rng)
    elif is_hero:
        caption = captions.sentence(
            reference(past.hero, [shot.look for shot in past.shots], rng),
            place=shot.place,
            motion=shot.motion,
            rng=rng,
        )
    return replace(shot, caption=caption)


def sample_scene(rng: np.random.Generator, *, shots: int, held_out: bool = False) -> SceneSpec:
    """A scene of `shots` shots around one hero.

    Its look is named in the first caption (half of the scenes), in the global prompt (a quarter), or
    nowhere: it is then known from the pictures only. With `held_out` every shot shows a combination of
    look and place that `is_held_out`; otherwise none does.
    """
    hero = _sample_look_with_places(rng, held_out, places=min(2, shots))
    past = _Past(hero=hero, hero_size=rng.uniform(*DIAMETER), shots=())
    naming = rng.random()
    prompt = ""
    if NAMED_IN_FIRST_SHOT <= naming < NAMED_IN_FIRST_SHOT + NAMED_IN_PROMPT:
        prompt = captions.scene_prompt(hero, rng)
    for _ in range(shots):
        shot = _sample_shot(past, named=naming < NAMED_IN_FIRST_SHOT, held_out=held_out, rng=rng)
        past = _Past(hero=hero, hero_size=past.hero_size, shots=(*past.shots, shot))
    return SceneSpec(shots=past.shots, prompt=prompt)


def sample_cast(
    rng: np.random.Generator, *, clips: int, held_out: bool = False, variety: Variety = PLAIN
) -> SceneSpec:
    """`clips` shots of one look in changing places and motions, each with a caption that names everything.

    Shots of several casts can be put together to scenes: see `compose.py`.
    """
    hero = _sample_look_with_places(rng, held_out, places=2)
    past = _Past(hero=hero, hero_size=rng.uniform(*DIAMETER), shots=())
    for _ in range(clips):
        shot = _draw_shot(hero, past.hero_size, past, held_out, rng, moving=variety.camera)
        past = _Past(hero=hero, hero_size=past.hero_size, shots=(*past.shots, shot))
    return SceneSpec(shots=past.shots)
