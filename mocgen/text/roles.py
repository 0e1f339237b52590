"""What a word does in a caption, from the small words and endings around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# what a word does; heading: an action in a caption that gives a direction
Role = Literal["adjective", "thing", "scene", "action", "heading"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an the this its his her their our my some one two")
INTO_SCENE = _words(
    "in on at over across through along above below beneath underneath under inside between among amid near "
    "by behind beside within past during into onto atop outside upon off against around after before up down "
    "towards"
)
LINKS = _words("and or with without of while as from then but to for like where when very")
BECOMING = _words("is are was be being becomes become which who that")
BREAKS = _words("while with as")
DIRECTIONS = _words("left right leftwards rightwards leftward rightward")
EMPTY = _words("coloured colored colour color shaped shape patterned pattern hued toned looking")
FUNCTION_WORDS = ARTICLES | INTO_SCENE | LINKS | BECOMING | EMPTY
_TOKEN = re.compile(r"[^\W_]+|[,;:.!?]")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A word of a caption, in lower case, and what it does there."""

    word: str
    role: Role


def tokenize(text: str) -> list[Token]:
    """The words of a caption in order.

    What follows a preposition is the scene, until an article, a comma or a link begins something else. Of
    what is left, the last word of a phrase is the thing, those before it are adjectives; after a thing, a
    word in -s, or in -ing at the end of its phrase, begins an action.
    """
    found: list[Token] = []
    state: Role = "thing"
    begun, last = False, 0  # whether the part of the sentence at hand has a word yet, and where the last is
    parts = _TOKEN.findall(text.lower())
    for word, following in pairwise([*parts, ""]):
        if word in FUNCTION_WORDS or not word[0].isalnum():
            after = _state_after(word, state, begun)
            begun = begun and after == state and word not in BREAKS
            state = after
            if word[0].isalnum():
                found.append(Token(word=word, role=state))
            continue
        if state == "thing" and begun:
            if _begins_action(word, following):
                state = "action"
            else:
                found[last] = Token(word=found[last].word, role="adjective")
        begun, last = True, len(found)
        found.append(Token(word=word, role=state))
    return found


def _state_after(word: str, state: Role, begun: bool) -> Role:
    """What a small word or a sign turns the sentence to."""
    if word in INTO_SCENE:
        return "scene"
    if word in BECOMING:
        return "action"
    if word in BREAKS or not word[0].isalnum() or (word in ARTICLES and state == "scene" and begun):
        return "thing"
    return state


def _begins_action(word: str, following: str) -> bool:
    ends = not following[:1].isalnum() or following in FUNCTION_WORDS or following in DIRECTIONS
    return len(word) > 3 and (word.endswith("s") or (word.endswith("ing") and ends))
