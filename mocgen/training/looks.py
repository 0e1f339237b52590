"""What a run learns beside predicting pictures: to tell, token by token, how the object looks.

In the squared error of pictures colour outweighs shape and pattern by far. A small classifier makes them
count alike: of clean shots in the middle of the network, so that a look can be retrieved from any token
that shows it, and of noisy shots behind the retrieval, so that it is. Aligning hidden states of a diffusion
transformer with what they depict follows Yu et al., arXiv 2410.06940. The model is saved without
the classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocgen.model.config import DiTConfig
from mocgen.model.contexts import PackedScene
from mocgen.model.dit import MoCDiT

from .world import COLORS, PATTERNS, SHAPES, Look

CLASSES = (len(SHAPES), len(PATTERNS), len(COLORS), len(COLORS) + 1)  # the second colour may be none
SCALE = 4.0  # of the logits: makes AdamW's steps of the classifiers as much larger
COVERED = 0.3  # of a token's area, from which on it shows the object


def look_labels(look: Look) -> tuple[int, int, int, int]:
    """The class of shape, pattern, first and second colour."""
    second = len(COLORS) if look.color2 is None else COLORS.index(look.color2)
    return SHAPES.index(look.shape), PATTERNS.index(look.pattern), COLORS.index(look.color), second


def look_entropy(head: nn.Linear, hidden: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of what a classifier reads, summed over the four attributes.

    hidden: (N, W); wanted: (N, 4) classes.
    """
    normed = F.rms_norm(hidden.float(), hidden.shape[-1:])
    logits: Sequence[Tensor] = (SCALE * head(normed)).split(CLASSES, dim=-1)
    losses = [F.cross_entropy(part.float(), wanted[:, i]) for i, part in enumerate(logits)]
    return torch.stack(losses).sum()


def shows_object(objects: Tensor, config: DiTConfig) -> Tensor:
    """Of how much it covers, (B, S, T, h, w), which tokens show the object: (B, S, tokens)."""
    size = (config.patch_frames, config.patch, config.patch)
    return F.avg_pool3d(objects, size).flatten(2) > COVERED


class LookTeacher(nn.Module):
    """Linear classifiers over hidden states of the DiT: clean tokens, noisy tokens, what is read out."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.clean = nn.Linear(config.width, sum(CLASSES))
        self.noisy = nn.Linear(config.width, sum(CLASSES))
        self.read = nn.Linear(config.width, sum(CLASSES))
        depth = config.depth
        self.clean_layers = sorted({max(0, depth // 3 - 1), max(0, depth // 2 - 1)})
        self.noisy_layers = sorted({max(0, depth - 2), depth - 1})
        self._seen: dict[int, Tensor] = {}
        self._read: list[Tensor] = []  # (B, G, W) each: what captions were read out as

    def watch(self, model: MoCDiT) -> list[torch.utils.hooks.RemovableHandle]:
        """Keep the hidden states of every forward pass until the next; returns what ends it."""
        handles = [
            model.blocks[layer].register_forward_hook(
                lambda block, inputs, output, layer=layer: self._seen.__setitem__(layer, output)
            )
            for layer in {*self.clean_layers, *self.noisy_layers}
        ]
        if self.config.readout:
            project = model.readout.project
            handles.append(
                project.register_forward_pre_hook(lambda project, inputs: self._read.append(inputs[0]))
            )
        handles.append(model.blocks[0].register_forward_pre_hook(lambda block, inputs: self._read.clear()))
        return handles

    def loss(self, scene: PackedScene, objects: Tensor, labels: Tensor, clean: int) -> Tensor:
        """Mean cross-entropy, summed over the four attributes: of clean shots, noisy shots, their captions.

        objects: (B, S, T, h, w) coverage; labels: (B, S, 4); the first `clean` of S shots are clean.
        """
        covered = shows_object(objects, self.config)
        video = scene.video[len(scene.video) - labels.shape[1] :]
        parts = (
            (self.clean, self.clean_layers, range(clean)),
            (self.noisy, self.noisy_layers, range(clean, labels.shape[1])),
        )
        total = torch.zeros(())
        for head, layers, shots in parts:
            for layer in layers if shots else ():
                hidden = torch.stack([self._seen[layer][:, video[s]] for s in shots], dim=1)  # (B, s, n, W)
                seen = covered[:, list(shots)]
                wanted = labels[:, list(shots), None].expand(*seen.shape, -1)
                if seen.any():
                    total = total + look_entropy(head, hidden[seen], wanted[seen]) / len(layers)
        for means in self._read:
            told = means[:, means.shape[1] - labels.shape[1] + clean :].flatten(0, 1)  # of noisy shots
            total = total + look_entropy(self.read, told, labels[:, clean:].flatten(0, 1)) / len(self._read)
        self._seen.clear()
        self._read.clear()
        return total

    def told(self) -> Tensor:
        """The classes that each caption of the last forward pass was read out as, last: (B, G, 4)."""
        logits = self.read(self._read[-1].float()).split(CLASSES, dim=-1)
        return torch.stack([part.argmax(-1) for part in logits], dim=-1)
