"""The native model: the embedded checkpoint and what `mocgen train` makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from mocgen.codec.embedded import EmbeddedCodec, to_pixels, to_unit_range
from mocgen.denoise import Denoiser
from mocgen.errors import UsageError
from mocgen.model.attention import Routing
from mocgen.model.dit import MoCDiT
from mocgen.native_denoiser import NativeDenoiser
from mocgen.settings import Settings
from mocgen.text.vocabulary import Vocabulary
from mocgen.video import CutFinder, VideoInfo, read_frames
from mocgen.video_model import ClipShot, Decoder, Defaults, Picture, ShotLength, Size, Words

VIEWABLE = 384  # pixels; smaller pictures are scaled up to about this unless the user says otherwise
SHORTEST_SHOT, LONGEST_SHOT = 0.25, 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class NativeModel:
    """DiT, codec, vocabulary, defaults. `revision` says exactly which weights these are."""

    dit: MoCDiT
    codec: EmbeddedCodec
    vocabulary: Vocabulary
    defaults: Defaults
    revision: str = ""

    context_seconds = 60.0
    extends = True
    past_in_sequence = False
    keeps_latents = True

    @property
    def layers(self) -> int:
        """Number of attention layers."""
        return self.dit.config.depth

    @property
    def heads(self) -> int:
        """Heads per layer."""
        return self.dit.config.heads

    def denoiser(self, canvas: Size) -> Denoiser:
        """The DiT in the loop."""
        return NativeDenoiser(self.dit, shift=self.defaults.shift)

    def check(self, settings: Settings, *, extends: bool) -> None:
        """Raises UsageError for contexts of another shape than the model was trained with."""
        if settings.contexts is not None:
            raise UsageError("--contexts is for checkpoints of the Wan family; this model's are its own")

    def notes(self, settings: Settings, latents: Sequence[int], *, after_clip: bool) -> list[str]:
        """Nothing to tell."""
        return []

    def routing(self, settings: Settings) -> Routing:
        """How contexts are chosen: the own shot is an anchor unless a local window is asked for."""
        return Routing(
            policy=settings.attention,
            top_k=settings.top_k or self.defaults.top_k,
            causal=settings.causal is not False,
            local_window=settings.local_window,
            first_frame=settings.first_frame,
        )

    def sizes(self, settings: Settings, clip: Size | None) -> tuple[Size, Size]:
        """The codec's own square, and that scaled up, or the clip's size."""
        side = self.codec.config.size
        if clip is not None and settings.size is not None:
            raise UsageError("--size does not go with extend: the continuation has the clip's own size")
        return (side, side), clip or _output_size(side, settings)

    def lengths(self, seconds: Sequence[float | None], *, after_clip: bool) -> list[ShotLength]:
        """Shots of the one length that the model makes, held or skipped to last as long as asked."""
        natural = Fraction(self.defaults.frames) / Fraction(self.defaults.fps)
        return [
            ShotLength(latents=self.defaults.frames, seconds=_seconds(asked, natural)) for asked in seconds
        ]

    def noise_seed(self, seed: int, index: int) -> int:
        """Mixes the seed and the place in the scene; less the place it is the same for all of a scene."""
        return (seed * 1_000_003 + index) % 2**63

    def read(self, captions: Sequence[str], *, prompt: str, negative: str) -> Words:
        """Word ids (1, N); the global prompt is a part of the sequence."""
        return Words(
            captions=tuple(self._ids(caption) for caption in captions),
            negative=self._ids(negative),
            prompt=self._ids(prompt) if prompt else None,
        )

    def decoder(self, past: Sequence[Tensor]) -> Decoder:
        """The codec knows single frames only: nothing comes over from the shots before."""
        return self.decode

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (T, C, h, w) → frames (T, H, W, 3) uint8, on the CPU."""
        weight = next(self.codec.parameters())
        return to_pixels(self.codec.decode(latents.to(weight.device, weight.dtype))).cpu()

    def encode_clip(self, clip: VideoInfo, *, seconds: float, size: Size) -> list[ClipShot]:
        """In pieces of the model's own length, the last of which ends with the shot."""
        cuts = CutFinder()
        frames = read_frames(clip.path, fps=self.defaults.fps, size=size, last_seconds=seconds, cuts=cuts)
        latents = torch.cat([self._encode(chunk) for chunk in _chunks(frames, self.defaults.frames)])
        return [
            ClipShot(begin=shot.begin, pieces=self._pieces(latents[shot.frames.start : shot.frames.stop]))
            for shot in cuts.shots()
        ]

    def check_latents(self, latents: Tensor) -> None:
        """Raises ValueError for other shapes and for values that are no numbers."""
        config = self.dit.config
        frames = latents.shape[1] if latents.ndim == 5 else 0
        shape = (1, frames, config.latent_channels, config.latent_size, config.latent_size)
        if not frames or frames % config.patch_frames or latents.shape != shape:
            raise ValueError(f"they have the shape {tuple(latents.shape)}")
        if not latents.isfinite().all():
            raise ValueError("they hold values that are no numbers")

    def pictures(self, latents: Tensor, routing: Routing, *, opens: bool) -> list[Picture]:
        """The first frame of each group that is one context."""
        group = self.dit.config.patch_frames
        firsts = self.decode(latents[::group]).numpy()
        return [
            Picture(frames=(group * i, group * (i + 1)), thumbnail=picture)
            for i, picture in enumerate(firsts)
        ]

    def _ids(self, text: str) -> Tensor:  # (1, N)
        config = self.dit.config
        ids = self.vocabulary.padded(text, multiple=config.caption_multiple, limit=config.caption_limit)
        return torch.tensor([ids], device=next(self.dit.parameters()).device)

    def _pieces(self, latents: Tensor) -> tuple[Tensor, ...]:
        """One shot's latents (T, C, h, w) in whole groups of frames; a rest at its start is left out."""
        group, longest = self.dit.config.patch_frames, self.defaults.frames
        if len(latents) < group:  # begin with a still of the first frame
            latents = torch.cat((latents[:1].expand(group - len(latents), *latents.shape[1:]), latents))
        latents = latents[len(latents) % group :]
        first = len(latents) % longest or longest
        pieces = [latents[:first], *latents[first:].split(longest)]
        return tuple(piece[None] for piece in pieces if len(piece))

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> Tensor:
        """(T, H, W, 3) uint8 → latents (T, C, h, w) fp32."""
        weight = next(self.codec.parameters())
        pixels = to_unit_range(torch.from_numpy(frames)).to(weight.device, weight.dtype)
        return self.codec.encode(pixels).float()


def _output_size(native: int, settings: Settings) -> Size:
    if not settings.upscale:
        if settings.size not in (None, (native, native)):
            raise UsageError(f"--no-upscale writes the model's own {native}x{native}; leave out --size")
        return native, native
    if settings.size is None:
        side = native * max(1, round(VIEWABLE / native))
        return side, side
    width, height = settings.size
    if width != height or width < native:
        side = max(native, min(width, height))
        raise UsageError(
            f"size {width}x{height} cannot be reached: this model draws square pictures of "
            f"{native}x{native} and larger; try --size {side}x{side}"
        )
    return width, height


def _seconds(asked: float | None, natural: Fraction) -> Fraction:
    if asked is None:
        return natural
    if not SHORTEST_SHOT <= asked <= LONGEST_SHOT:
        raise UsageError(
            f"a shot of {asked:g} seconds cannot be made: this model's shots last "
            f"{SHORTEST_SHOT:g} to {LONGEST_SHOT:g} seconds"
        )
    return Fraction(asked).limit_denominator(1000)


def _chunks(frames: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Frames in runs of `size`: (size or fewer, H, W, 3)."""
    chunk: list[np.ndarray] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)
