"""The ways to choose contexts that are compared, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mocgen.errors import UsageError
from mocgen.settings import ATTENTION_NAMES, AttentionName

Past = Literal["shots", "clip", "none"]
WAYS = (
    "dense", "moc-1", "moc-2", "moc-4", "moc-8", "first-frame", "window-4", "random-4",
    "none", "named", "clip", "clip-captions",
)  # fmt: skip
QUICK_WAYS = ("dense", "moc-2", "window-2", "random-2", "none")
WITH_BUDGET = ("moc", "window", "random")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One row of the table.

    named: the caption of the return names the look, an upper bound for drawing. captions: those of the
    scene say what a clip shows.
    """

    name: str
    attention: AttentionName = "moc"
    top_k: int | None = None  # None: the model's own
    past: Past = "shots"
    named: bool = False
    captions: bool = False


def read_way(name: str) -> Way:
    """ "moc-4" → attention moc with top-k 4; "none", "named", "clip" … stand for what they say.

    Raises UsageError for other names.
    """
    special = {
        "none": Way(name=name, past="none"),
        "named": Way(name=name, past="none", named=True),
        "clip": Way(name=name, past="clip"),
        "clip-captions": Way(name=name, past="clip", captions=True),
    }
    if name in special:
        return special[name]
    match = re.fullmatch(r"([a-z-]+?)(?:-([1-9][0-9]{0,5}))?", name)
    if match is None or match[1] not in ATTENTION_NAMES or (match[2] and match[1] not in WITH_BUDGET):
        raise UsageError(
            f"attention {name!r} is not known; give {', '.join(ATTENTION_NAMES)}, with a budget "
            f"such as moc-4, window-4 or random-4, or {', '.join(special)}"
        )
    top_k = int(match[2]) if match[2] else None
    return Way(name=name, attention=match[1], top_k=top_k)  # type: ignore[arg-type]
