"""What a context is, where a model leaves the choice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ContextCut:
    """What a context is: `frames` latent frames of a shot, or a tile of (rows, columns) tokens of one.

    Raises:
        ValueError: less than one frame or token, or tiles of several frames.
    """

    frames: int = 1
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if min(self.frames, *(self.tile or ())) < 1 if self.tile else self.frames < 1:
            raise ValueError("a context needs at least one frame, or a tile of at least one token")
        if self.tile and self.frames > 1:
            raise ValueError("a context is a run of frames or a tile of one frame, not both")

    @classmethod
    def parse(cls, text: str) -> ContextCut:
        """From "4" (latent frames) or "8x8" (rows and columns of tokens).

        Raises:
            ValueError: neither, or less than one.
        """
        match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is neither a number of frames such as 4 nor a tile such as 8x8")
        first, second = match.groups()
        return cls(frames=int(first)) if second is None else cls(tile=(int(first), int(second)))


ONE_FRAME = ContextCut()
