"""How far the world goes beyond its plain form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variety:
    """Shares from 0 to 1. Raises ValueError for others."""

    synonyms: float = 0.0  # of the choices of a word or an order take a rarer one
    incomplete: float = 0.1  # of the full captions leave something out
    camera: float = 0.0  # of the shots have a moving camera
    friend: float = 0.0  # of the scenes have a second character that comes back

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if not 0 <= share <= 1:
                raise ValueError(f"data.world.{name} must be from 0 to 1, not {share}")


PLAIN = Variety()
