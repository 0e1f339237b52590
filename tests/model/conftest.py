"""A small DiT with random weights, and scenes for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT, NoisyShot


@pytest.fixture(scope="session")
def random_model() -> Callable[[DiTConfig], MoCDiT]:
    """A model with random weights everywhere (a fresh one predicts zeros)."""

    def make(config: DiTConfig) -> MoCDiT:
        torch.manual_seed(0)
        model = MoCDiT(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return make


@pytest.fixture(
    scope="session",
    params=[
        {},
        {"stem_width": 8, "readout": 1, "sketch_frames": 8, "paint_width": 8, "rotated_routing": False},
    ],
    ids=["plain", "with-all-parts"],
)
def model(request: pytest.FixtureRequest, random_model: Callable[[DiTConfig], MoCDiT]) -> MoCDiT:
    """Three layers and two heads."""
    config = DiTConfig(
        width=64, depth=3, heads=2, vocabulary=40, latent_size=8, refine_width=16, refine_blocks=1,
        rope_axes=(8, 8, 8, 8), **request.param,
    )  # fmt: skip
    return random_model(config)


@pytest.fixture
def make_shots(model: MoCDiT) -> Callable[..., list[NoisyShot]]:
    """Shots of the given lengths in frames, captions of differing lengths, noise levels (default: clean)."""

    def make(frames: list[int], t: list[float] | None = None, seed: int = 0) -> list[NoisyShot]:
        generator = torch.Generator().manual_seed(seed)
        config = model.config
        size = (config.latent_channels, config.latent_size, config.latent_size)
        return [
            NoisyShot(
                index=i,
                caption=torch.randint(1, config.vocabulary, (1, 8 * (1 + i % 2)), generator=generator),
                latents=torch.randn(1, n, *size, generator=generator),
                t=torch.tensor([t[i] if t else 1.0]),
                sketch=torch.tensor([0.5, 0.4, 0.2, 0.8, 0.6, 1]).repeat(1, n, 1) if t and t[i] < 1 else None,
            )
            for i, n in enumerate(frames)
        ]

    return make
