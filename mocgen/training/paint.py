"""Teaches the painter of a model what it paints, apart from the picture that becomes of it."""

from __future__ import annotations

import torch
from torch import Tensor

from mocgen.model.dit import MoCDiT
from mocgen.model.layers import Stem
from mocgen.model.sketch import RADIUS

from .batches import Batch
from .stem import stem_error


class PaintTeacher:
    """Follows what is painted in forward passes of a model."""

    def __init__(self) -> None:
        self._painted: list[Tensor] = []  # (B, frames, C, h, w) of each noisy shot

    def watch(self, model: MoCDiT) -> None:
        """Keep what is painted in every forward pass until the next."""
        model.blocks[0].register_forward_pre_hook(lambda block, inputs: self._painted.clear())
        model.painter.register_forward_hook(lambda painter, inputs, output: self._painted.append(output))

    def loss(self, batch: Batch, stem: Stem | None) -> Tensor:
        """Squared error of painted latents where the object covers them, and of what a frozen stem sees.

        Noise has no part in it: from its condition alone the painter must know what the object looks like.
        """
        if not self._painted or batch.sketches is None:
            return batch.latents.new_zeros(())
        found = torch.stack(self._painted, dim=1).float()  # (B, noisy shots, frames, C, h, w)
        self._painted.clear()
        frames = list(batch.frames)
        target = batch.latents[:, batch.clean :, frames]
        told = batch.sketches[:, batch.clean :, frames, RADIUS, None, None] > 0
        covered = (batch.objects[:, batch.clean :, frames] * told)[:, :, :, None]  # of one channel
        area = covered.sum().clamp(min=1)
        loss = ((found - target).square().mean(3, keepdim=True) * covered).sum() / area
        if stem is not None:
            put = target + (found - target) * covered
            seen = stem_error(stem, put.flatten(0, 1), target.flatten(0, 1))
            loss = loss + (seen * covered.squeeze(3).flatten(0, 1)).sum() / area
        return loss
