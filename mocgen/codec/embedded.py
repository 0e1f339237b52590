"""The embedded codec: a small convolutional autoencoder, one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Sizes of the codec. A frame of `size`² pixels becomes `channels` × (size/8)² latents."""

    size: int = 96  # pixels
    channels: int = 8  # latent channels
    width: int = 64  # channels at a quarter of the frame size; twice as many at an eighth
    blocks: int = 2  # residual blocks at each of the two sizes

    @property
    def latent_size(self) -> int:
        return self.size // 8


class Conv2d(nn.Module):
    """A convolution that keeps its kernel as a matrix, the form that the Muon optimizer works on."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride, self.inputs = kernel, stride, inputs
        fan_in = inputs * kernel * kernel
        self.weight = nn.Parameter(torch.randn(outputs, fan_in) * fan_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w)
        weight = self.weight.view(-1, self.inputs, self.kernel, self.kernel)
        return F.conv2d(x, weight, self.bias, stride=self.stride, padding=self.kernel // 2)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), without normalisation; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(width, width)
        self.conv2 = Conv2d(width, width)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


def _blocks(config: CodecConfig, width: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(config.blocks)]


class EmbeddedCodec(nn.Module):
    """Frames in [-1, 1] ↔ latents of about unit variance, 8× smaller on each side."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width, wide = config.width, 2 * config.width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            Conv2d(48, width),
            *_blocks(config, width),
            Conv2d(width, wide, stride=2),
            *_blocks(config, wide),
            nn.SiLU(),
            Conv2d(wide, config.channels),
        )
        self.norm = nn.BatchNorm2d(config.channels, affine=False, momentum=0.02)
        self.decoder = nn.Sequential(
            Conv2d(config.channels, wide),
            *_blocks(config, wide),
            Conv2d(wide, 4 * width, kernel=1),
            nn.PixelShuffle(2),
            *_blocks(config, width),
            nn.SiLU(),
            Conv2d(width, 48),
            nn.PixelShuffle(4),
        )

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (..., 3, size, size) in [-1, 1] → latents (..., channels, size/8, size/8)."""
        flat = frames.reshape(-1, *frames.shape[-3:]).contiguous(memory_format=torch.channels_last)
        latents = self.norm(self.encoder(flat))
        return latents.reshape(*frames.shape[:-3], *latents.shape[1:])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (..., channels, size/8, size/8) → frames (..., 3, size, size), about [-1, 1]."""
        flat = latents.reshape(-1, *latents.shape[-3:]).contiguous(memory_format=torch.channels_last)
        frames = self.decoder(flat)
        return frames.reshape(*latents.shape[:-3], *frames.shape[1:])


def to_unit_range(frames: Tensor) -> Tensor:
    """Frames (..., H, W, 3) uint8 → (..., 3, H, W) float in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_pixels(frames: Tensor) -> Tensor:
    """Frames (..., 3, H, W) in about [-1, 1] → (..., H, W, 3) uint8."""
    return ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
