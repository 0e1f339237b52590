"""Specs → sentences: synonyms, word orders, and now and then an attribute left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mocgen.training.world import synonyms, words
from mocgen.training.world.specs import Look
from mocgen.training.world.variety import PLAIN, Variety

USUAL_SHARE = 0.5  # of choices that take the first, usual way to say something
ATTRIBUTES = ("place", "motion", "colors", "pattern")  # one of them may be left out


def _way(rng: np.random.Generator, ways: Sequence[str], rarer: Sequence[str] = (), share: float = 0) -> str:
    """One of the ways to say something; with a probability of `share` one of the rarer ones."""
    if share and rarer and rng.random() < share:
        return rarer[int(rng.integers(len(rarer)))]
    if rng.random() < USUAL_SHARE:
        return ways[0]
    return ways[int(rng.integers(len(ways)))]


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def shape_noun(shape: str, rng: np.random.Generator, variety: Variety = PLAIN) -> str:
    """One of the shape's names."""
    return _way(rng, words.SHAPE_NOUNS[shape], synonyms.MORE_SHAPE_NOUNS[shape], variety.synonyms)


def look_phrase(
    look: Look,
    rng: np.random.Generator,
    *,
    colors: bool = True,
    pattern: bool = True,
    variety: Variety = PLAIN,
) -> str:
    """A noun phrase without article, such as "red and white striped ball"."""
    share = variety.synonyms

    def color_word(color: str) -> str:
        return _way(rng, words.COLOR_ADJECTIVES[color], synonyms.MORE_COLOR_ADJECTIVES[color], share)

    def pattern_word(name: str) -> str:
        return _way(rng, words.PATTERN_ADJECTIVES[name], synonyms.MORE_PATTERN_ADJECTIVES[name], share)

    noun = shape_noun(look.shape, rng, variety)
    if not colors:
        return f"{pattern_word(look.pattern)} {noun}"
    color = color_word(look.color)
    if look.color2 is None:
        stated = pattern and rng.random() < 0.4
        return f"{pattern_word('plain')} {color} {noun}" if stated else f"{color} {noun}"
    color2 = color_word(look.color2)
    if not pattern:
        return f"{color} and {color2} {noun}"
    adjective = pattern_word(look.pattern)
    marks = _way(rng, words.PATTERN_NOUNS[look.pattern])
    orders = (
        f"{color} and {color2} {adjective} {noun}",
        f"{color} {noun} with {color2} {marks}",
        f"{noun} with {color} and {color2} {marks}",
        f"{adjective} {color} and {color2} {noun}",
    )
    return orders[rng.choice(4, p=(0.45, 0.25, 0.15, 0.15))]


def sentence(
    subject: str,
    *,
    place: str | None,
    motion: str | None,
    rng: np.random.Generator,
    camera: str = "",
    variety: Variety = PLAIN,
) -> str:
    """A caption about `subject`; a place or motion of None is left out."""
    scene = _scene(subject, place, motion, rng, variety)
    if not camera:
        return scene
    move = _way(rng, synonyms.CAMERA_PHRASES[camera])
    return f"{move}, {scene}" if rng.random() < 0.3 else f"{scene}, {move}"


def _scene(
    subject: str, place: str | None, motion: str | None, rng: np.random.Generator, variety: Variety
) -> str:
    """What is where and does what."""
    where, share = "", variety.synonyms
    if place is not None:
        where = _way(rng, words.PLACE_PHRASES[place], synonyms.MORE_PLACE_PHRASES[place], share)
    if motion is None:
        return f"{subject} {where}" if rng.random() < 0.5 else f"{where}, {subject}"
    does, doing = _verb(motion, rng, share)
    if place is None:
        return f"{subject} {does}"
    if share and rng.random() < share:
        rarer = (
            f"there is {subject} {doing} {where}",
            f"{doing} {where}, {subject}",
            f"{where} {does} {subject}",
        )
        return rarer[rng.integers(3)]
    orders = (
        f"{subject} {does} {where}",
        f"{where}, {subject} {does}",
        f"{subject} {doing} {where}",
        f"{subject} {where} {does}",
    )
    return orders[rng.choice(4, p=(0.45, 0.25, 0.2, 0.1))]


def _verb(motion: str, rng: np.random.Generator, share: float) -> tuple[str, str]:
    """A way to say a motion: what it does, and what it is doing."""
    if share and rng.random() < share:
        rarer = synonyms.rarer_verbs(motion)
        verb = rarer[rng.integers(len(rarer))]
    else:
        verbs = words.MOTION_VERBS[motion]
        verb = verbs[0] if rng.random() < USUAL_SHARE else verbs[rng.integers(len(verbs))]
    tail = _way(rng, verb.tails)
    return f"{verb.present} {tail}".strip(), f"{verb.ing} {tail}".strip()


def full_caption(
    look: Look,
    place: str,
    motion: str,
    rng: np.random.Generator,
    *,
    camera: str = "",
    variety: Variety = PLAIN,
) -> str:
    """A caption that names look, place, motion and camera; some leave one of them out."""
    missing = ""
    if rng.random() < variety.incomplete:
        missing = str(rng.choice((*ATTRIBUTES, "camera") if camera else ATTRIBUTES))
    colors, pattern = missing != "colors", missing != "pattern"
    return sentence(
        with_article(look_phrase(look, rng, colors=colors, pattern=pattern, variety=variety)),
        place=None if missing == "place" else place,
        motion=None if missing == "motion" else motion,
        rng=rng,
        camera="" if missing == "camera" else camera,
        variety=variety,
    )


def introduction(
    look: Look,
    place: str,
    motion: str,
    rng: np.random.Generator,
    *,
    camera: str = "",
    form: str = words.HERO_INTRODUCTION,
    variety: Variety = PLAIN,
) -> str:
    """The caption of a first shot that names the look of the hero, or of who `form` introduces."""
    phrase = look_phrase(look, rng, variety=variety)
    always = form != words.HERO_INTRODUCTION  # the name of the hero is heard often, another's only here
    subject = form.format(look=phrase) if rng.random() < 0.4 or always else with_article(phrase)
    return sentence(subject, place=place, motion=motion, rng=rng, camera=camera, variety=variety)


def scene_prompt(
    look: Look, rng: np.random.Generator, *, friend: Look | None = None, variety: Variety = PLAIN
) -> str:
    """A global prompt that names the look of the hero, and of a friend."""
    form = _way(rng, words.SCENE_PROMPTS)
    text = form.format(look=with_article(look_phrase(look, rng, variety=variety)))
    if friend is None:
        return text
    second = with_article(look_phrase(friend, rng, variety=variety))
    return f"{text}, {synonyms.FRIEND_PROMPT.format(look=second)}"
