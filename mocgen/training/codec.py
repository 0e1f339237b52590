"""Training of the embedded codec on frames of the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mocgen.codec.embedded import Conv2d, EmbeddedCodec, to_unit_range

from .config import CodecTraining
from .optim import Optimizers
from .state import Deadline, OnStep, learn, step_generator


def codec_loss(output: Tensor, target: Tensor, mask: Tensor, object_weight: float) -> Tensor:
    """L1 with heavier objects + ½ L1 of the image gradients + ½ L1 of 4× pooled frames.

    output, target: (N, 3, H, W); mask: (N, 1, H, W) in [0, 1].
    """
    error = output - target
    weight = 1 + (object_weight - 1) * mask
    pixels = (error.abs() * weight).sum() / (3 * weight.sum())
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return pixels + 0.5 * slopes + 0.5 * F.avg_pool2d(error, 4).abs().mean()


def codec_optimizers(codec: EmbeddedCodec, training: CodecTraining) -> Optimizers:
    """Muon for every kernel but those that touch pixels or latents."""
    edges = {codec.encoder[1], codec.encoder[-1], codec.decoder[0], codec.decoder[-2]}
    names = [
        f"{name}.weight"
        for name, module in codec.named_modules()
        if isinstance(module, Conv2d) and module not in edges
    ]
    return Optimizers(codec, names, training.optim)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What a codec learns from: frames (N, H, W, 3) uint8, coverage of the object (N, H, W) uint8."""

    pixels: Tensor
    objects: Tensor


def train_codec(
    codec: EmbeddedCodec,
    training: CodecTraining,
    frames: Frames,
    *,
    steps: int,
    decoder_only: bool = False,
    seed: int,
    state: Path,
    save_every: int,
    on_step: OnStep,
    device: torch.device,
    deadline: Deadline,
) -> EmbeddedCodec:
    """Train a codec, or with `decoder_only` its decoder for the latents as they are; averages its weights.

    Goes on from `state` if that file exists, with the same result as an uninterrupted run. The result is
    on the CPU. Raises Paused at the deadline.
    """
    codec.to(device)
    optimizers = codec_optimizers(codec, training)
    codec.train(not decoder_only)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        picks = torch.randint(len(frames.pixels), (training.batch,), generator=generator)
        target = to_unit_range(frames.pixels[picks]).contiguous(memory_format=torch.channels_last)
        mask = frames.objects[picks, None].float() / 255  # (N, 1, H, W)
        sigma = training.latent_noise * torch.rand(len(picks), 1, 1, 1, generator=generator)
        side = codec.config.latent_size
        noise = sigma * torch.randn(len(picks), codec.config.channels, side, side, generator=generator)
        target, mask, noise = (x.to(device, non_blocking=True) for x in (target, mask, noise))
        with torch.autocast(device.type, torch.bfloat16):
            with torch.set_grad_enabled(not decoder_only):
                latents = codec.encode(target)
            output = codec.decode(latents + noise)
        return codec_loss(output.float(), target, mask, training.object_weight)

    learn(
        codec,
        optimizers,
        loss_at,
        steps=steps,
        state=state,
        save_every=save_every,
        on_step=on_step,
        deadline=deadline,
    )
    return codec.cpu().eval()
