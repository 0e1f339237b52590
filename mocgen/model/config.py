"""Sizes of the native DiT."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of the native DiT. A video token is `patch`² latents over `patch_frames` frames."""

    width: int = 256
    depth: int = 6
    heads: int = 4
    vocabulary: int = 512  # word ids; 0 is padding
    caption_multiple: int = 8  # captions are padded to a multiple of this many tokens
    caption_limit: int = 64  # longest caption, in tokens
    latent_channels: int = 8
    latent_size: int = 12  # latents on each side of a frame
    patch: int = 2
    patch_frames: int = 4
    refine_width: int = 96  # channels of the convolutional refinement of the prediction
    refine_blocks: int = 3
    rope_axes: tuple[int, int, int, int] = (12, 12, 20, 20)  # dims for shot, time, height, width
    stem_width: int | None = None  # channels of convolutions over latents before they are cut to tokens
    stem_blocks: int = 3
    readout: int | None = None  # from this block on, captions tell the condition what they retrieved
    sketch_frames: int | None = None  # frames of the sketches that are drawn before the pictures
    sketch_width: int = 256  # of the network that draws them
    sketch_blocks: int = 4
    paint_width: int | None = None  # channels of the painter of objects, for models with sketches
    paint_blocks: int = 3
    paint_scale: int = 2  # places that it paints on each side of a latent
    rotated_routing: bool = True  # route by queries and keys after their rotary turn, or before

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def grid(self) -> int:
        """Video tokens on each side of a frame."""
        return self.latent_size // self.patch

    @property
    def cell(self) -> int:
        """Latent places in one video token, over its frames."""
        return self.patch**2 * self.patch_frames

    @property
    def token_dim(self) -> int:
        """Latent values in one video token."""
        return self.latent_channels * self.cell

    def __post_init__(self) -> None:
        if sum(self.rope_axes) != self.head_dim:
            raise ValueError(f"rope_axes {self.rope_axes} must add up to the head size {self.head_dim}")
