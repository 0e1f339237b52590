"""What the loop over shots needs of a model: the embedded kind and real checkpoints offer it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from torch import Tensor

from mocgen.denoise import Denoiser
from mocgen.model.attention import Routing
from mocgen.settings import Settings
from mocgen.video import VideoInfo


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model does where the user does not say."""

    frames: int = 8  # of a shot
    fps: float = 8.0
    steps: int = 28
    guidance: float = 2.5
    shift: float = 1.0  # of the noise levels (native models); above 1: more steps near the noise
    top_k: int = 3


@dataclass(frozen=True, kw_only=True)
class Words:
    """The texts of a run as a model reads them."""

    captions: tuple[Tensor, ...]  # one for each caption that was given
    negative: Tensor
    prompt: Tensor | None = None  # of the global prompt, where it is a part of the sequence


@dataclass(frozen=True, kw_only=True)
class ShotLength:
    """Latent frames of a shot, and how long it lasts in the output."""

    latents: int
    seconds: Fraction


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a context shows: frames [first, end) of its shot, and one of them (H, W, 3) uint8."""

    frames: tuple[int, int]
    thumbnail: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ClipShot:
    """A shot of a clip: the second at which it begins, and its latents in pieces (1, T, C, h, w)."""

    begin: float
    pieces: tuple[Tensor, ...]


Size = tuple[int, int]  # width and height in pixels
Decoder = Callable[[Tensor], Tensor]  # latents (T, C, h, w) of the next shot → frames (T', H, W, 3) uint8


class VideoModel(Protocol):
    """A loaded model. Latents are (T, C, h, w), with a batch of one in front where shots are remembered."""

    @property
    def revision(self) -> str:
        """Says exactly which weights these are."""

    @property
    def defaults(self) -> Defaults:
        """What is done where the user does not say."""

    @property
    def context_seconds(self) -> float:
        """How much of a clip is remembered unless the user says otherwise."""

    @property
    def layers(self) -> int:
        """Number of attention layers."""

    @property
    def heads(self) -> int:
        """Heads per layer."""

    def denoiser(self, canvas: Size) -> Denoiser:
        """The network that takes noise away, for pictures of this size."""

    @property
    def extends(self) -> bool:
        """Whether it can go on from a clip."""

    @property
    def past_in_sequence(self) -> bool:
        """Whether jointly denoised shots see a clip in their own sequence, not in the memory."""

    @property
    def keeps_latents(self) -> bool:
        """Whether the latents of its shots are small enough to be stored with a video."""

    def check(self, settings: Settings, *, extends: bool) -> None:
        """Raises UsageError if the model cannot do what is asked for."""

    def notes(self, settings: Settings, latents: Sequence[int], *, after_clip: bool) -> list[str]:
        """What the user should know about a run with so many latent frames in each shot."""

    def routing(self, settings: Settings) -> Routing:
        """How contexts are chosen."""

    def sizes(self, settings: Settings, clip: Size | None) -> tuple[Size, Size]:
        """Of the picture that the model draws, and of the output.

        Raises UsageError if the size that is asked for cannot be reached.
        """

    def lengths(self, seconds: Sequence[float | None], *, after_clip: bool) -> list[ShotLength]:
        """How long shots become that are asked to last so long (None: the model's own length).

        Raises UsageError if one cannot be made.
        """

    def noise_seed(self, seed: int, index: int) -> int:
        """Seed of the noise of the shot at a place in the scene."""

    def read(self, captions: Sequence[str], *, prompt: str, negative: str) -> Words:
        """The texts of a run: once, before its first shot is made."""

    def decoder(self, past: Sequence[Tensor]) -> Decoder:
        """Decodes shots one after another; `past`: latents (1, T, C, h, w) of the shots before them."""

    def encode_clip(self, clip: VideoInfo, *, seconds: float, size: Size) -> list[ClipShot]:
        """The last seconds of a clip as latents; no piece of them straddles a cut.

        Raises ClipError if it cannot be decoded.
        """

    def check_latents(self, latents: Tensor) -> None:
        """Raises ValueError if these (1, T, C, h, w) are no latents of a shot of this model."""

    def pictures(self, latents: Tensor, routing: Routing, *, opens: bool) -> list[Picture]:
        """What the video contexts of a shot show, in order; latents (T, C, h, w), `opens`: the scene."""
