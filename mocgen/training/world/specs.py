"""What a shot of the synthetic world shows: looks, places, motions, poses, shots and scenes."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

SHAPES = ("ball", "cube", "triangle", "diamond", "star", "ring")
PATTERNS = ("plain", "striped", "dotted", "checkered")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
PLACES = (
    "beach",
    "desert",
    "snowy forest",
    "meadow",
    "night city",
    "outer space",
    "under the sea",
    "sunset hills",
)
MOTIONS = ("moves left", "moves right", "bounces", "flies in a circle", "grows", "spins", "stands still")

HELD_OUT_SHARE = 0.05  # of all combinations of a look and a place


@dataclass(frozen=True, kw_only=True)
class Look:
    """The appearance of an object; `color2` is None exactly when the pattern is plain."""

    shape: str
    pattern: str
    color: str
    color2: str | None


@dataclass(frozen=True, kw_only=True)
class Pose:
    """What the caption leaves open: where the object is and which variant of the place is behind it."""

    x: float  # offset of the object from the middle, in frame widths
    lift: float  # height above its usual one, in frame heights
    size: float  # diameter, in frame widths
    phase: float  # of periodic motions, 0..1
    backdrop: int  # seed of the background's details


@dataclass(frozen=True, kw_only=True)
class ShotSpec:
    """One shot: everything that rendering needs, and two captions.

    `caption` is the text as it stands in the scene and may say "the hero"; `full_caption` names the look.
    """

    look: Look
    place: str
    motion: str
    pose: Pose
    caption: str
    full_caption: str
    camera: str = ""  # how it moves; empty: it stands


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """Shots in order, and the global prompt (may be empty)."""

    shots: tuple[ShotSpec, ...]
    prompt: str = ""


def is_held_out(look: Look, place: str) -> bool:
    """Whether the combination is kept for evaluation (a fixed 5 % of all combinations)."""
    name = "|".join((look.shape, look.pattern, look.color, look.color2 or "", place))
    digest = blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**32
