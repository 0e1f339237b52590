"""What a run learns beside predicting pictures: to tell, token by token, how the object looks.

In the squared error of pictures colour outweighs shape and pattern by far. A small classifier makes them
count alike: of clean shots in the middle of the network, so that a look can be retrieved from any token
that shows it, and of noisy shots behind the retrieval, so that it is. Aligning hidden states of a diffusion
transformer with what they depict follows Yu et al., arXiv 2410.06940. The maps of a `ShotMixer` are to show
where the object is in every frame. The model is saved without the classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocgen.model.config import DiTConfig
from mocgen.model.contexts import PackedScene
from mocgen.model.dit import MoCDiT
from mocgen.model.patches import to_patches

from .world import COLORS, PATTERNS, SHAPES, Look

CLASSES = (len(SHAPES), len(PATTERNS), len(COLORS), len(COLORS) + 1)  # the second colour may be none
SCALE = 4.0  # of the logits: makes AdamW's steps of the classifiers as much larger
MAPS = 4.0  # weight of where the object is, next to what it is
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
        self._maps: list[Tensor] = []  # (B, runs, tokens, cell) of each shot

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
        if self.config.mixer:
            spread = model.mixer.spread
            handles.append(
                spread.register_forward_pre_hook(lambda spread, inputs: self._maps.append(inputs[0]))
            )
        handles.append(model.blocks[0].register_forward_pre_hook(lambda block, inputs: self._forget()))
        return handles

    def _forget(self) -> None:
        self._read.clear()
        self._maps.clear()

    def loss(self, scene: PackedScene, objects: Tensor, labels: Tensor, clean: int) -> Tensor:
        """Mean cross-entropy, summed over the four attributes: of clean shots, noisy shots, their captions.

        To it is added, `MAPS` times, that of where the object is in noisy shots, if there is a mixer.
        objects: (B, S, T, h, w) coverage; labels: (B, S, 4); the first `clean` of S shots are clean.
        """
        covered = self._token_coverage(objects) > COVERED  # (B, S, tokens)
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
        for maps, where in zip(self._maps[clean:], objects[:, clean:].unbind(1), strict=bool(self._maps)):
            total = total + MAPS * self._map_entropy(maps.flatten(1, 2), where) / (labels.shape[1] - clean)
        self._seen.clear()
        self._forget()
        return total

    def _map_entropy(self, maps: Tensor, objects: Tensor) -> Tensor:
        """Cross-entropy of where in each frame the object is, mean over frames that show it.

        maps: (N, tokens, cell) logits; objects: (N, T, h, w) coverage, whose shares are what is wanted.
        """
        wanted = to_patches(objects[:, :, None], self.config)
        maps = maps[:, : wanted.shape[1]]  # the mixer may have filled them up
        logits, shares = (  # (N, T, h·w), in the order of tokens
            x.float()
            .unflatten(1, (-1, self.config.grid**2))
            .unflatten(3, (self.config.patch_frames, -1))
            .movedim(3, 2)
            .flatten(3)
            .flatten(1, 2)
            for x in (SCALE * maps, wanted)
        )
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-6)
        seen = shares.sum(-1) > 0
        if not seen.any():
            return maps.sum() * 0
        return F.cross_entropy(logits[seen], shares[seen])

    def told(self) -> Tensor:
        """The classes that each caption of the last forward pass was read out as, last: (B, G, 4)."""
        logits = self.read(self._read[-1].float()).split(CLASSES, dim=-1)
        return torch.stack([part.argmax(-1) for part in logits], dim=-1)

    def _token_coverage(self, objects: Tensor) -> Tensor:
        """(B, S, T, h, w) → (B, S, tokens), ordered group, row, column."""
        config = self.config
        size = (config.patch_frames, config.patch, config.patch)
        return F.avg_pool3d(objects, size).flatten(2)
