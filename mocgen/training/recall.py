"""Some heads are taught what to retrieve: the earlier shots that show what their own shot is to show.

Top-k has no gradient, so a router learns only by what attention makes of its queries and keys. Where the
truth is known the choice itself can be taught: the scores of contexts become a distribution, of which the
contexts that show the same object should have all. Half of the heads are left to look for what they like.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mocgen.model.attention import Attention
from mocgen.model.config import DiTConfig
from mocgen.model.contexts import GLOBAL_PROMPT, PackedScene
from mocgen.model.dit import MoCDiT
from mocgen_kernels import Kind


class RecallTeacher:
    """Follows queries and keys, as routing goes by them, through the inner layers of a model."""

    def __init__(self, config: DiTConfig) -> None:
        self.layers = range(1, config.depth - 1)
        self.taught = max(1, config.heads // 2)  # heads
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(self, model: MoCDiT) -> None:
        """Keep the queries and keys of every forward pass until the next."""
        for layer in self.layers:
            attention: Attention = model.get_submodule(f"blocks.{layer}.attention")  # type: ignore[assignment]
            attention.qkv.register_forward_hook(
                lambda module, inputs, output, layer=layer, attention=attention: self._keep(
                    layer, attention, output
                )
            )

    def _keep(self, layer: int, attention: Attention, qkv: Tensor) -> None:
        q, k, _ = attention.split(qkv)
        self._seen[layer] = (q[:, :, : self.taught].float(), k[:, :, : self.taught].float())

    def loss(self, scene: PackedScene, covered: Tensor, labels: Tensor, clean: int) -> Tensor:
        """Mean −log of the share that contexts of the same object have, in noisy shots.

        It is asked of captions and of tokens that show the object.
        covered: (B, S, tokens) which tokens of a shot show its object; labels: (B, S, 4), equal for equal
        objects; the first `clean` of S shots are clean. The share is that of softmax(q · descriptor / √D)
        over the contexts of earlier shots; shots without such a past do not count.
        """
        count = labels.shape[1]
        shots = sorted({shot for shot in scene.shots if shot != GLOBAL_PROMPT})
        same = (labels[:, :, None] == labels[:, None]).all(-1)  # (B, S, S)
        losses = []
        for q, k in self._seen.values():
            descriptors = torch.stack([part.mean(1) for part in k.split(scene.lengths, dim=1)], 1)
            for shot in range(max(1, clean), count):
                past = [c for c, owner in enumerate(scene.shots) if owner in shots[:shot]]
                owners = [shots.index(scene.shots[c]) for c in past]
                video = torch.tensor([scene.kinds[c] == Kind.VIDEO for c in past], device=q.device)
                wanted = same[:, shot, owners] & video  # (B, past)
                segment = len(scene.text) - count + shot
                losses += self._entropies(
                    descriptors[:, past],
                    wanted,
                    [(q[:, scene.text[segment]], None), (q[:, scene.video[segment]], covered[:, shot])],
                )
        self._seen.clear()
        return torch.stack(losses).mean() if losses else labels.new_zeros((), dtype=torch.float32)

    @staticmethod
    def _entropies(
        descriptors: Tensor, wanted: Tensor, queries: Sequence[tuple[Tensor, Tensor | None]]
    ) -> list[Tensor]:
        """One mean for each kind of queries that has any.

        descriptors: (B, C, H, D); wanted: (B, C); queries: (B, n, H, D) each, and which count (B, n).
        """
        has = wanted.any(-1)  # (B,)
        entropies = []
        for q, counts in queries:
            asked = has[:, None].expand(-1, q.shape[1]) if counts is None else counts & has[:, None]
            if not asked.any():
                continue
            scores = torch.einsum("bnhd,bchd->bnhc", q, descriptors) / q.shape[-1] ** 0.5
            share = scores.log_softmax(-1).masked_fill(~wanted[:, None, None], -torch.inf)
            entropies.append(-share[asked].logsumexp(-1).mean())
        return entropies
