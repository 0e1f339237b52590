"""Sample sheets: pictures to judge a run by while it goes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mocgen.codec.embedded import EmbeddedCodec, to_pixels
from mocgen.denoise import Guidance, ShotPlan, denoise, finished, remember
from mocgen.model.attention import Routing
from mocgen.model.dit import MoCDiT
from mocgen.model.memory import ContextMemory
from mocgen.native_denoiser import NativeDenoiser
from mocgen.text.vocabulary import Vocabulary

GUIDANCE, SHIFT = 2.0, 3.0  # with which a trained model is sampled
SAMPLE_SCENES: tuple[tuple[str, ...], ...] = (
    (
        "a red and white striped ball rolls to the right on a beach",
        "the hero bounces in the meadow",
        "the hero spins under the sea",
        "the hero stands still in the city at night",
    ),
    (
        "a green and yellow checkered star spins in outer space",
        "a blue cube grows in the snowy forest",
        "the star from before moves left in the desert",
        "the star from before grows on the hills at sunset",
    ),
    (
        "a purple ring flies in a circle in the meadow",
        "an orange and black dotted diamond bounces on the beach",
        "a yellow triangle stands still in the city at night",
        "a pink and white dotted cube moves left under the sea",
    ),
)


def sample_sheet(
    model: MoCDiT,
    codec: EmbeddedCodec,
    vocabulary: Vocabulary,
    *,
    frames: int,
    routing: Routing,
    steps: int = 20,
) -> Tensor:
    """Generate the sample scenes: a picture (H, W, 3) uint8, a scene a row, first and last frame of shots."""
    config, denoiser = model.config, NativeDenoiser(model, shift=SHIFT)
    rows = []
    for number, captions in enumerate(SAMPLE_SCENES):
        memory = ContextMemory(config.depth)
        negative = torch.zeros(1, config.caption_multiple, dtype=torch.long)
        row = []
        for index, caption in enumerate(captions):
            ids = vocabulary.padded(caption, multiple=config.caption_multiple, limit=config.caption_limit)
            plan = ShotPlan(
                index=index, caption=torch.tensor([ids]), frames=frames, seed=1000 * number + index
            )
            latents = denoise(
                denoiser,
                [plan],
                prompt=None,
                steps=steps,
                guidance=Guidance(scale=GUIDANCE, negative=negative),
                routing=routing,
                memory=memory,
            )
            states = finished(denoiser, [plan], latents)
            remember(denoiser, states, prompt=None, routing=routing, memory=memory)
            with torch.inference_mode():
                pixels = to_pixels(codec.decode(latents[0][0, [0, frames - 1]]))
            row += list(pixels)
        rows.append(torch.cat(row, dim=1))
    return torch.cat(rows)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG."""
    from matplotlib.image import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, picture.numpy())
