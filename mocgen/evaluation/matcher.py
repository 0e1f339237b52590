"""Generated frames → the look of the object, and where it is: the nearest rendering.

Every look is laid over the frames at many positions and sizes. What counts is how much better it explains
the covered pixels than the place behind it does: once pixel by pixel, once by its colours wherever they
are (so that a pattern that is a little off keeps its colours). The look with the most, over all frames, is
the match.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mocgen.training.world import SHAPES, Look

from .backdrops import CAP, backdrop_distance
from .content import content_gains
from .templates import SPIN_PHASES, Templates, cut_out, templates

RADII = (0.09, 0.12, 0.15, 0.18, 0.21, 0.24)  # in frame widths, of the first search
KEPT = 8  # places of each frame that are looked at closely
ROUNDS = ((0.014, 0.06), (0.007, 0.03))  # of closer looks: steps in frame widths, and of the radius


@dataclass(frozen=True, kw_only=True)
class Match:
    """The nearest rendering. T frames."""

    look: Look
    where: Tensor  # (T, 3): centre x, y and radius, in frame widths
    spins: bool
    gain: float  # how much better the object explains its pixels than the place does


@torch.inference_mode()
def match_look(frames: Tensor, place: str) -> Match:
    """The look that explains a shot's object best. frames: (T, 3, H, W) in 0..1."""
    bank = templates(len(frames))
    distance = backdrop_distance(frames, place)  # (T, H, W)
    features = torch.cat((frames, (distance - frames.square().sum(1))[:, None]), dim=1)  # (T, 4, H, W)
    upright = torch.zeros(1, len(frames), dtype=torch.long)
    turning = 1 + torch.arange(len(SPIN_PHASES) * len(frames)).view(-1, len(frames))
    where = _look_around(_find(distance, bank), *ROUNDS[0])
    gains = _gains(features, where, bank, torch.cat((upright, turning[:1])))  # (ways, T, K, looks)
    best = gains.amax((0, 3)).topk(KEPT, dim=1).indices  # (T, kept)
    where = _look_around(where.gather(1, best[..., None].expand(-1, -1, 3)), *ROUNDS[1])
    gains = _gains(features, where, bank, torch.cat((upright, turning)))
    peaks, index = gains.max(dim=2)  # (ways, T, looks)
    fits = peaks.sum(1).unflatten(1, (len(SHAPES), -1))  # (ways, shapes, looks of a shape)
    best = fits.argmax(2) + torch.arange(len(SHAPES)) * fits.shape[2]  # (ways, shapes)
    picks = index.gather(2, best[:, None].expand(-1, len(frames), -1)).movedim(0, 1).flatten(1)
    windows = where.gather(1, picks[..., None].expand(-1, -1, 3))  # (T, ways · shapes, 3)
    views = torch.cat((upright, turning))
    total = fits + content_gains(features, windows, views, bank)
    way, number = divmod(int(total.argmax()), total[0].numel())
    shape = number // fits.shape[2]
    return Match(
        look=bank.look_at(number),
        where=windows[:, way * len(SHAPES) + shape],
        spins=way > 0,
        gain=float(total.max()),
    )


def _find(distance: Tensor, bank: Templates) -> Tensor:
    """Where the place does not explain the pixels: (T, K, 3) best positions for each shape and radius."""
    evidence = distance.clamp(max=CAP) / CAP - 0.5  # (T, H, W)
    half = F.avg_pool2d(evidence[:, None], 2)
    size = half.shape[-1]
    scores, places = [], []
    for radius in RADII:
        side = 2 * int(1.25 * radius * size) + 1
        kernel = F.interpolate(bank.outlines[:, None], (side, side), mode="area")
        score = F.conv2d(F.pad(half, [side // 2] * 4, value=-0.5), kernel)  # (T, 6, h, w)
        peak, index = score.flatten(2).max(-1)  # (T, 6)
        x, y = (index % size + 0.5) / size, (index // size + 0.5) / size
        scores.append(peak)
        places.append(torch.stack((x, y, torch.full_like(x, radius)), dim=-1))
    best = torch.cat(scores, dim=1).topk(KEPT, dim=1).indices
    return torch.cat(places, dim=1).gather(1, best[..., None].expand(-1, -1, 3))


def _look_around(where: Tensor, step: float, growth: float) -> Tensor:
    """(T, K, 3) → (T, 7K, 3): also a step to each side, and smaller and larger."""
    moves = torch.tensor([[0, 0], [step, 0], [-step, 0], [0, step], [0, -step], [0, 0], [0, 0]])
    factors = torch.tensor([1, 1, 1, 1, 1, 1 + growth, 1 - growth])
    centre = where[:, :, None, :2] + moves
    radius = where[:, :, None, 2:] * factors[:, None]
    return torch.cat((centre, radius.expand(*centre.shape[:3], 1)), dim=-1).flatten(1, 2)


def _gains(features: Tensor, where: Tensor, bank: Templates, views: Tensor) -> Tensor:
    """Gain of every look at every window, in each way to turn: views (ways, T) → (ways, T, K, G · M)."""
    count, windows = where.shape[:2]
    cut = cut_out(features, where)  # (T, K, 4, P)
    colors = cut[:, :, :3].flatten(1, 2)  # (T, 3K, P)
    found = []
    for view in views:
        base = cut.flatten(2) @ bank.fields[view]  # (T, K, G)
        shares = (colors @ bank.shares[view]).unflatten(1, (windows, 3))  # (T, K, 3, 2G)
        terms = torch.cat(
            (base[:, :, None], shares.unflatten(-1, (2, -1)).movedim(3, 2).flatten(2, 3)), dim=2
        )
        by_group = terms.movedim(-1, 0).flatten(1, 2) @ bank.mixing  # (G, TK, M)
        gains = by_group.unflatten(1, (count, windows)).movedim(0, 2) - bank.energy[view][:, None]
        found.append(gains.flatten(2))
    return torch.stack(found) * where[..., 2, None].square()
