"""What a word does in a caption, from the small words and endings around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["adjective", "thing", "scene", "action"]

ARTICLES = frozenset("a an the this its his her their our my some one two".split())
INTO_SCENE = frozenset(
    "in on at over across through along above below beneath underneath under inside between among amid near "
    "by behind beside within past during into onto atop outside upon off against around after before".split()
)
LINKS = frozenset("and or with without of while as from then but to for like where when very".split())
BECOMING = frozenset("is are was be being becomes become which who that".split())
EMPTY = frozenset("coloured colored colour color shaped shape patterned pattern hued toned looking".split())
FUNCTION_WORDS = ARTICLES | INTO_SCENE | LINKS | BECOMING | EMPTY
ACTION_ENDING = re.compile(r"[a-z]{2}(?:s|ing)$")
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
    word in -s or -ing begins an action.
    """
    found: list[Token] = []
    state: Literal["thing", "scene", "action"] = "thing"
    begun = False  # whether the part of speech at hand has a word yet
    for word in _TOKEN.findall(text.lower()):
        if not word[0].isalnum() or (word in ARTICLES and state == "scene" and begun) or word == "while":
            state, begun = "thing", False
        elif word in INTO_SCENE:
            state, begun = "scene", False
        elif word in ("with", "as"):
            state, begun = "thing", False
        elif word in BECOMING:
            state, begun = "action", False
        elif word not in FUNCTION_WORDS:
            if state == "thing" and begun and ACTION_ENDING.search(word):
                state = "action"
            if state == "thing" and begun:
                found[-1] = Token(word=found[-1].word, role="adjective")
            begun = True
            found.append(Token(word=word, role=state))
            continue
        if word[0].isalnum():
            found.append(Token(word=word, role=state))
    return found
