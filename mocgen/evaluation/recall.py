"""The recall benchmark: does a character whose look stands in no caption come back as it was?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import torch
from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.settings import Settings

from .rates import Rate, mean
from .reading import decode, encode_true, look_agreement, read_shot
from .requests import RecallRequest
from .returns import Return, Returns
from .scenes import ReturnScene, return_scene
from .ways import Way, read_way

ASPECTS = ("exact", "any_order", "shape", "pattern", "colours")
CHANCE_SCENES = 300
SHOWN = 2  # scenes of each gap that are kept for the picture

OnProgress = Callable[[int, int], None]  # shots done, of how many


@dataclass(frozen=True, kw_only=True)
class RecallFigures:
    """What returns made in one way amount to."""

    way: str
    gap: int | None  # None: all gaps
    rates: dict[str, Rate]  # of each of ASPECTS
    density: float
    found: float  # share of the object's queries that routed to where it was seen, mean of layers and heads
    found_best: float  # the same in the best head
    gflops: float  # of attention, per shot
    seconds: float  # per shot


@dataclass(frozen=True, kw_only=True)
class Example:
    """One scene for the picture: frames (T, H, W, 3) uint8."""

    gap: int
    seen: Tensor
    true: Tensor
    returns: dict[str, tuple[Tensor, bool]]  # by way: frames, and whether the look is exact


@dataclass(frozen=True, kw_only=True)
class RecallReport:
    """All results of a benchmark."""

    request: RecallRequest
    settings: Settings
    revision: str
    steps: int
    ceiling: dict[str, Rate]  # true frames through the codec, read in the same way
    chance: dict[str, float]  # the look of another scene
    figures: tuple[RecallFigures, ...]  # by way: each gap, then all
    examples: tuple[Example, ...]
    elapsed_seconds: float

    def of(self, way: str, gap: int | None = None) -> RecallFigures:
        """The figures of one way at one gap, or at all."""
        return next(f for f in self.figures if f.way == way and f.gap == gap)


def measure_recall(
    model: NativeModel, request: RecallRequest, settings: Settings, *, on_progress: OnProgress
) -> RecallReport:
    """Make every return in every way. A function of its arguments, but for the times.

    Raises UsageError for settings that the model cannot carry out.
    """
    start = time.monotonic()
    ways = [read_way(name) for name in request.ways]
    cells = list(product(request.gaps, range(request.samples)))
    scenes = [return_scene(settings.seed, number, gap) for gap, number in cells]
    made: dict[tuple[str, int], list[Return]] = {}
    truths, examples = [], []
    for place, ((gap, number), scene) in enumerate(zip(cells, scenes, strict=True)):
        noise = replace(settings, seed=(settings.seed + number) % 2**31)
        returns = Returns(scene, model, noise, request.history)
        found: dict[str, Return] = {}
        for done, way in enumerate(ways):
            on_progress(place * len(ways) + done, len(cells) * len(ways))
            one = found[way.name] = returns.make(way)
            made.setdefault((way.name, gap), []).append(replace(one, pixels=one.pixels[:0].clone()))
        true = decode(encode_true(scene.back, model), model)
        truths.append(look_agreement(read_shot(true, place=scene.back.place).match.look, scene.back.look))
        if number < SHOWN:
            examples.append(_example(scene, true, found, model))
    on_progress(len(cells) * len(ways), len(cells) * len(ways))
    return RecallReport(
        request=request,
        settings=settings,
        revision=model.revision,
        steps=settings.steps or model.defaults.steps,
        ceiling={aspect: Rate.of(truth[aspect] for truth in truths) for aspect in ASPECTS},
        chance=_chance(settings.seed),
        figures=tuple(_all_figures(ways, request.gaps, made)),
        examples=tuple(examples),
        elapsed_seconds=time.monotonic() - start,
    )


def _chance(seed: int) -> dict[str, float]:
    """How often the look of another scene would have been right."""
    looks = [return_scene(seed, number, 1).back.look for number in range(CHANCE_SCENES)]
    found = [look_agreement(a, b) for a, b in combinations(looks, 2)]
    return {aspect: mean(agreement[aspect] for agreement in found) for aspect in ASPECTS}


def _all_figures(
    ways: Sequence[Way], gaps: Sequence[int], made: dict[tuple[str, int], list[Return]]
) -> list[RecallFigures]:
    figures = []
    for way in ways:
        figures += [_figures(way.name, gap, made[way.name, gap]) for gap in gaps]
        figures.append(_figures(way.name, None, [one for gap in gaps for one in made[way.name, gap]]))
    return figures


def _figures(way: str, gap: int | None, made: Sequence[Return]) -> RecallFigures:
    found = torch.stack([one.found for one in made]).mean(0)  # (layers, heads)
    return RecallFigures(
        way=way,
        gap=gap,
        rates={aspect: Rate.of(one.agreement[aspect] for one in made) for aspect in ASPECTS},
        density=mean(one.density for one in made),
        found=float(found.mean()),
        found_best=float(found.max()),
        gflops=mean(one.flops for one in made) / 1e9,
        seconds=mean(one.seconds for one in made),
    )


def _example(scene: ReturnScene, true: Tensor, found: dict[str, Return], model: NativeModel) -> Example:
    return Example(
        gap=scene.gap,
        seen=decode(encode_true(scene.seen, model), model),
        true=true,
        returns={name: (one.pixels, one.agreement["exact"]) for name, one in found.items()},
    )
