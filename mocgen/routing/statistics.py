"""Numbers about one run's routing: density, entropy, where attention went, loops between shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from .report import RoutingReport


@dataclass(frozen=True, kw_only=True)
class Share:
    """Where the attention mass of a shot's queries went; the four add up to 1."""

    captions: float  # the global prompt, the own caption, and anchored captions of other shots
    own_shot: float  # frames of the own shot
    routed_past: float  # earlier shots
    future: float  # later shots (0 under causal routing)


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """How the queries of one shot (frames and caption) attended, in one head of one layer.

    None stands where nothing was routed.
    """

    layer: int
    head: int
    shot: int
    density: float  # attended (query, key) pairs / all pairs with the tokens that the scene held by then
    entropy: float | None  # of the routed choices over key contexts, nats
    entropy_normalised: float | None  # entropy / log(number of candidate contexts)
    share: Share
    mean_distance: float | None  # mean |shot - shot| of the attention mass routed to other shots


@dataclass(frozen=True, kw_only=True)
class ShotStatistics:
    """One shot, mean over layers and heads (numbers that are None there are left out)."""

    shot: int
    density: float
    entropy: float | None
    entropy_normalised: float | None
    share: Share
    mean_distance: float | None
    routed_from: tuple[float, ...]  # (shots,) see `routed_shares`


@dataclass(frozen=True, kw_only=True)
class RoutingStatistics:
    """All numbers of a report."""

    density: float  # of all recorded queries
    loops: int  # unordered pairs of shots that route to each other in the same layer and head
    loop_pairs: tuple[tuple[int, int], ...]
    loops_by_head: tuple[tuple[int, ...], ...]  # [layer][head] pairs in that head
    heads: tuple[HeadStatistics, ...]
    shots: tuple[ShotStatistics, ...]


def statistics(report: RoutingReport) -> RoutingStatistics:
    """All numbers of a report; they are counted from the recorded tensors alone."""
    shot_to_shot = shot_routing(report)
    mutual = shot_to_shot & shot_to_shot.transpose(-1, -2)  # (N, H, S, S)
    mutual = mutual.triu(diagonal=1)
    heads = tuple(
        _head_statistics(report, layer, head, shot)
        for shot in report.asking_shots()
        for layer in range(report.layers)
        for head in range(report.heads)
    )
    from_shots = routed_shares(report)
    shots = tuple(
        _shot_statistics([entry for entry in heads if entry.shot == shot], from_shots[shot])
        for shot in report.asking_shots()
    )
    pairs = mutual.any(0).any(0).nonzero().tolist()
    return RoutingStatistics(
        density=density(report, report.asking()),
        loops=len(pairs),
        loop_pairs=tuple((first, second) for first, second in pairs),
        loops_by_head=tuple(tuple(row) for row in mutual.sum((-1, -2)).tolist()),
        heads=heads,
        shots=shots,
    )


def shot_routing(report: RoutingReport) -> Tensor:
    """(N, H, S, S) bool: some query of the row's shot routed to some context of the column's shot."""
    member = _membership(report)  # (S, C)
    return (member @ report.counts.double() @ member.T) > 0


def routed_mass(report: RoutingReport) -> Tensor:
    """(N, H, C, C) float64: attention mass on routed contexts only, summed over query tokens and steps."""
    return report.mass.double() * report.token_steps[:, None, :, None] * ~report.anchors


def routed_shares(report: RoutingReport) -> Tensor:
    """(S, S) float64: of the attention that the row's shot routed to other shots, the share of each.

    What is routed to within the own shot (under a local window) is no memory and counts for nothing.
    Captions count for their shot; layers and heads weigh by the routed attention that they have.
    A row is zero where the shot routed nothing.
    """
    member = _membership(report)
    mass = (member @ routed_mass(report).sum((0, 1)) @ member.T).fill_diagonal_(0)
    return mass / mass.sum(-1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


def remembered(report: RoutingReport) -> list[float]:
    """Share of the attention routed to other shots that each shot received; they add up to 1.

    Counted over the shots that had a choice of other shots, with the same weight; all 0 if there is none.
    """
    member = _membership(report)
    others = (member @ report.candidates.double() @ member.T).fill_diagonal_(0)  # (S, S)
    choices = (others > 0).sum(-1)  # (S,)
    shares = routed_shares(report)
    choosing = [shot for shot in report.asking_shots() if choices[shot] > 1 and shares[shot].sum() > 0]
    return list((shares[choosing].sum(0) / max(1, len(choosing))).tolist())


def density(
    report: RoutingReport, rows: list[int], layer: int | None = None, head: int | None = None
) -> float:
    """Attended (query, key) pairs / all pairs of some query contexts, in one or all layers and heads."""
    lengths = torch.tensor([label.length for label in report.contexts])
    layers = slice(None) if layer is None else slice(layer, layer + 1)
    heads = slice(None) if head is None else slice(head, head + 1)
    counts = report.counts[layers, heads][:, :, rows]  # (n, h, R, C)
    token_steps = report.token_steps[layers, rows]  # (n, R)
    routed = (counts @ lengths).sum()
    anchored = (token_steps @ (report.anchors[rows].long() @ lengths)).sum() * counts.shape[1]
    everything = report.pairs[layers, rows].sum() * counts.shape[1]
    return int(routed + anchored) / int(everything)


def _membership(report: RoutingReport) -> Tensor:  # (S, C) float64, 1 where the context is of the shot
    shots = torch.tensor([-1 if label.shot is None else label.shot for label in report.contexts])
    return (shots == torch.arange(report.shots)[:, None]).double()


def _head_statistics(report: RoutingReport, layer: int, head: int, shot: int) -> HeadStatistics:
    rows = [index for index in report.asking() if report.contexts[index].shot == shot]
    weight = report.token_steps[layer, rows].double()  # (R,)
    mass = report.mass[layer, head, rows].double() * weight[:, None]  # (R, C)
    entropy, normalised = _entropy(
        report.counts[layer, head, rows], int(report.candidates[rows].any(0).sum())
    )
    return HeadStatistics(
        layer=layer,
        head=head,
        shot=shot,
        density=density(report, rows, layer, head),
        entropy=entropy,
        entropy_normalised=normalised,
        share=_share(report, mass, rows, shot),
        mean_distance=_mean_distance(report, mass * ~report.anchors[rows], shot),
    )


def _entropy(counts: Tensor, candidates: int) -> tuple[float | None, float | None]:
    """Entropy of the routed choices (R, C) of some query contexts, in nats and as a share of the maximum."""
    total = counts.sum()
    if total == 0:
        return None, None
    chosen = counts.sum(0).double() / total
    entropy = float(-torch.xlogy(chosen, chosen).sum())
    return entropy, entropy / log(candidates) if candidates > 1 else 0.0


def _share(report: RoutingReport, mass: Tensor, rows: list[int], shot: int) -> Share:
    """Where a mass (R, C) went."""
    mass = mass / mass.sum()
    owner = torch.tensor([shot if label.shot is None else label.shot for label in report.contexts])
    text = torch.tensor([label.kind == "text" for label in report.contexts])
    captions = text & (report.anchors[rows] | (owner == shot))  # (R, C)
    return Share(
        captions=float(mass[captions].sum()),
        own_shot=float(mass[~captions & (owner == shot)].sum()),
        routed_past=float(mass[~captions & (owner < shot)].sum()),
        future=float(mass[~captions & (owner > shot)].sum()),
    )


def _mean_distance(report: RoutingReport, routed: Tensor, shot: int) -> float | None:
    """Mean distance in shots of a mass (R, C) that was routed to other shots."""
    placed = torch.tensor([label.shot not in (None, shot) for label in report.contexts])
    distance = torch.tensor([abs((label.shot or 0) - shot) for label in report.contexts]).double()
    total = routed[:, placed].sum()
    return float((routed * distance)[:, placed].sum() / total) if total > 0 else None


def _shot_statistics(heads: list[HeadStatistics], routed_from: Tensor) -> ShotStatistics:
    """Mean over the layers and heads of one shot."""
    return ShotStatistics(
        shot=heads[0].shot,
        density=_mean([entry.density for entry in heads]) or 0.0,
        entropy=_mean([entry.entropy for entry in heads]),
        entropy_normalised=_mean([entry.entropy_normalised for entry in heads]),
        share=Share(
            captions=_mean([entry.share.captions for entry in heads]) or 0.0,
            own_shot=_mean([entry.share.own_shot for entry in heads]) or 0.0,
            routed_past=_mean([entry.share.routed_past for entry in heads]) or 0.0,
            future=_mean([entry.share.future for entry in heads]) or 0.0,
        ),
        mean_distance=_mean([entry.mean_distance for entry in heads]),
        routed_from=tuple(routed_from.tolist()),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
