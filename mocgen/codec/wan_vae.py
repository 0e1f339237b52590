"""The Wan VAE as a stream: frames in and latents out, or the reverse, in memory that does not grow."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mocgen.codec.embedded import to_pixels, to_unit_range
from mocgen.codec.tiles import Tile, Tiling, blend, tiles_of
from mocgen.errors import ModelError
from mocgen_weights import WeightsError, load_module

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

REACH = 38  # latent frames before its own that a decoded frame depends on, through all causal convolutions


@dataclass(frozen=True, kw_only=True)
class WanVAEConfig:
    """What the rest of the house needs to know about a Wan VAE.

    The first latent frame stands for one frame, every further one for `temporal` frames: n latents are
    1 + temporal · (n − 1) frames.
    """

    temporal: int  # frames per latent frame: 4
    spatial: int  # pixels on each side of a latent: 8 (Wan2.1) or 16 (Wan2.2)
    channels: int  # of a latent: 16 or 48
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]  # per channel

    def latent_frames(self, frames: int) -> int:
        """Latents of some frames.

        Raises:
            ValueError: not temporal · n + 1 frames.
        """
        if frames < 1 or (frames - 1) % self.temporal:
            raise ValueError(f"the Wan VAE takes {self.temporal} · n + 1 frames; got {frames}")
        return 1 + (frames - 1) // self.temporal

    def frames(self, latents: int) -> int:
        """Frames of some latents."""
        return 1 + self.temporal * (latents - 1)


class WanVAE:
    """Frames (T, H, W, 3) uint8 ↔ latents (C, 1 + (T − 1) / 4, H / s, W / s) of about unit variance.

    Wraps diffusers' `AutoencoderKLWan`, that of Wan2.1 (4 × 8 × 8, C = 16, s = 8) as well as that of Wan2.2
    (4 × 16 × 16, C = 48, s = 16). It is causal in time, and its convolutions keep the last two frames that
    they have seen. So one latent frame (4 pixel frames) at a time goes through, and what is held is one
    latent frame's activations and the kept frames, however long the video. Results equal `vae.decode` and
    the mode of `vae.encode` of the whole.

    With a tiling a frame is decoded in overlapping tiles, each with its own kept frames: less memory for
    activations, and slightly other pictures, since the VAE's attention sees one tile at a time.
    """

    def __init__(self, vae: AutoencoderKLWan, *, tiling: Tiling | None = None) -> None:
        self.vae = vae.eval().requires_grad_(False)
        config: Any = vae.config
        self.config = WanVAEConfig(
            temporal=config.scale_factor_temporal,
            spatial=config.scale_factor_spatial,
            channels=config.z_dim,
            mean=tuple(config.latents_mean),
            std=tuple(config.latents_std),
        )
        self.tiling = tiling and tiling.scaled(self.config.spatial)
        self.patch: int = config.patch_size or 1

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        tiling: Tiling | None = None,
    ) -> WanVAE:
        """Read a VAE from a folder with diffusers' `config.json` and safetensors.

        Raises:
            ModelError: a file is missing or broken, or the tensors do not fit the configuration.
        """
        from diffusers import AutoencoderKLWan

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            with torch.device("meta"):
                vae = AutoencoderKLWan.from_config(config)
            load_module(vae, folder, dtype=dtype, device=torch.device(device))
        except (OSError, ValueError, TypeError, WeightsError) as error:
            raise ModelError(f"{folder} holds no usable Wan VAE: {error}") from None
        return cls(vae, tiling=tiling)

    @property
    def device(self) -> torch.device:
        return self.vae.device

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (T, H, W, 3) uint8, T = 4 n + 1 → latents (C, n + 1, H / s, W / s) fp32.

        Raises:
            ValueError: a number of frames or a size that does not fit.
        """
        self.config.latent_frames(len(frames))
        return torch.cat(list(self.encoding().push(frames)), dim=1)

    def decode(self, latents: Tensor, *, after: Tensor | None = None) -> Iterator[Tensor]:
        """Latents (C, n, h, w) → per latent frame its frames (1 or 4, H, W, 3) uint8, one after the other.

        after: latents that come before (C, m, h, w), all of them or the last `REACH`. They are decoded too,
            but not given out: the frames are those that decoding everything in one go would give.
        """
        decoding = self.decoding()
        if after is not None:
            for _ in decoding.push(after):
                pass
        for frames in decoding.push(latents):
            yield to_pixels(frames)

    def encoding(self) -> Encoding:
        """A video that is encoded piece by piece."""
        return Encoding(self)

    def decoding(self) -> Decoding:
        """A video that is decoded piece by piece."""
        return Decoding(self)

    def per_channel(self, values: tuple[float, ...]) -> Tensor:
        """(C, 1, 1, 1) fp32."""
        return torch.tensor(values, device=self.device).view(-1, 1, 1, 1)


class _Stream:
    """What both directions keep: how far they are, and of every tile the last frames of each convolution."""

    def __init__(self, codec: WanVAE) -> None:
        self.codec, self.begun = codec, False
        self.kept: dict[int, dict[int, Any]] = defaultdict(lambda: defaultdict(lambda: None))

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Of a latent frame."""
        return tiles_of(height, width, self.codec.tiling)

    @property
    def overlap(self) -> int:
        return self.codec.tiling.overlap if self.codec.tiling else 0


class Decoding(_Stream):
    """Decodes a video whose latents come in pieces; it remembers what later frames need of earlier ones."""

    @torch.no_grad()
    def push(self, latents: Tensor) -> Iterator[Tensor]:
        """The next latents (C, n, h, w) → per latent frame its frames (1 or 4, 3, H, W) fp32 in [−1, 1]."""
        codec, scale = self.codec, self.codec.config.spatial
        latents = latents.to(codec.device, torch.float32)
        latents = latents * codec.per_channel(codec.config.std) + codec.per_channel(codec.config.mean)
        height, width = latents.shape[-2:]
        for latent in latents.to(codec.vae.dtype).unbind(dim=1):  # (C, h, w)

            def work(number: int, tile: Tile, latent: Tensor = latent) -> Tensor:
                part = codec.vae.post_quant_conv(latent[None, :, None, tile[0], tile[1]])
                kept, first = self.kept[number], not self.begun
                part = codec.vae.decoder(part, feat_cache=kept, feat_idx=[0], first_chunk=first)
                return _from_patches(part, codec.patch)[0].float()  # (3, t, H, W)

            size = (height * scale, width * scale)
            frames = blend(self.tiles(height, width), work, size, scale, self.overlap * scale)
            self.begun = True
            yield frames.clamp_(-1, 1).transpose(0, 1)


class Encoding(_Stream):
    """Encodes a video whose frames come in pieces."""

    def __init__(self, codec: WanVAE) -> None:
        super().__init__(codec)
        self.waiting: list[Tensor] = []  # frames that do not make a latent yet: (H, W, 3) uint8 each

    @torch.no_grad()
    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """The next frames (t, H, W, 3) uint8 → the latents (C, 1, H / s, W / s) fp32 that they complete.

        Raises:
            ValueError: a size that is not a multiple of the VAE's.
        """
        scale = self.codec.config.spatial
        if frames.shape[1] % scale or frames.shape[2] % scale:
            raise ValueError(f"width and height must be multiples of {scale}; got {tuple(frames.shape[1:3])}")
        for frame in frames:
            self.waiting.append(frame)
            if len(self.waiting) == (self.codec.config.temporal if self.begun else 1):
                yield self._encode(torch.stack(self.waiting))
                self.waiting.clear()

    def _encode(self, frames: Tensor) -> Tensor:
        codec, scale = self.codec, self.codec.config.spatial
        height, width = frames.shape[1] // scale, frames.shape[2] // scale
        pixels = to_unit_range(frames.to(codec.device)).transpose(0, 1).to(codec.vae.dtype)  # (3, t, H, W)

        def work(number: int, tile: Tile) -> Tensor:
            rows, columns = (slice(s.start * scale, s.stop * scale) for s in tile)
            part = _to_patches(pixels[None, ..., rows, columns], codec.patch)
            part = codec.vae.encoder(part, feat_cache=self.kept[number], feat_idx=[0])
            return codec.vae.quant_conv(part)[0, : codec.config.channels].float()  # the mean, (C, 1, h, w)

        latent = blend(self.tiles(height, width), work, (height, width), 1, self.overlap)
        self.begun = True
        return (latent - codec.per_channel(codec.config.mean)) / codec.per_channel(codec.config.std)


def _to_patches(x: Tensor, patch: int) -> Tensor:
    """(B, C, T, H, W) → (B, C · patch², T, H / patch, W / patch); channels first, then column, then row."""
    x = x.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # (B, C, T, h, row, w, column)
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def _from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of `_to_patches`."""
    x = x.unflatten(1, (-1, patch, patch))  # (B, C, column, row, T, h, w)
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(-2).flatten(-3, -2)
