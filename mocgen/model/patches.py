"""Latents ↔ the values of video tokens."""

from __future__ import annotations

from torch import Tensor

from .config import DiTConfig


def to_patches(latents: Tensor, config: DiTConfig) -> Tensor:
    """(B, T, C, h, w) → (B, tokens, patch_frames·C·patch²), tokens ordered group, row, column.

    T must be a multiple of `patch_frames`; C may be any number of channels.
    """
    batch, frames, channels = latents.shape[:3]
    split = latents.reshape(
        batch,
        frames // config.patch_frames,
        config.patch_frames,
        channels,
        config.grid,
        config.patch,
        config.grid,
        config.patch,
    )  # b g f c y p x q
    return split.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(1, 3).flatten(2)


def from_patches(tokens: Tensor, config: DiTConfig) -> Tensor:
    """The inverse of `to_patches`: (B, tokens, patch_frames·C·patch²) → (B, T, C, h, w)."""
    batch = tokens.shape[0]
    split = tokens.reshape(
        batch,
        -1,
        config.grid,
        config.grid,
        config.patch_frames,
        tokens.shape[2] // config.cell,
        config.patch,
        config.patch,
    )  # b g y x f c p q
    merged = split.permute(0, 1, 4, 5, 2, 6, 3, 7)  # b g f c y p x q
    return merged.reshape(batch, -1, merged.shape[3], config.latent_size, config.latent_size)
