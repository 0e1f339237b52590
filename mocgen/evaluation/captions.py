"""Caption faithfulness: single shots of combinations that were never trained on, read back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from mocgen.bundle import NativeModel
from mocgen.settings import Settings
from mocgen.training.world import ShotSpec

from .filming import film
from .rates import Rate
from .reading import ATTRIBUTES, Reading, agreement, decode, encode_true, read_shot
from .requests import CaptionsRequest
from .scenes import captioned_shot

SHOWN = 24  # shots that are kept for the picture

OnProgress = Callable[[int, int], None]  # shots done, of how many


@dataclass(frozen=True, kw_only=True)
class JudgedShot:
    """One shot: its caption, its frames (T, H, W, 3) uint8, what was read, and what of it is right."""

    caption: str
    pixels: Tensor
    reading: Reading
    agreement: dict[str, bool]


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """How faithful generated shots are to their captions."""

    settings: Settings
    revision: str
    steps: int
    samples: int
    rates: dict[str, Rate]  # of each of ATTRIBUTES, and "all" of them at once
    ceiling: dict[str, Rate]  # true frames through the codec, read in the same way
    confusions: tuple[tuple[str, str, str, int], ...]  # attribute, asked for, shown, how often
    examples: tuple[JudgedShot, ...]
    elapsed_seconds: float


def measure_captions(
    model: NativeModel, request: CaptionsRequest, settings: Settings, *, on_progress: OnProgress
) -> CaptionReport:
    """Generate and read single shots. A function of its arguments, but for the time.

    Raises UsageError for settings that the model cannot carry out.
    """
    start, samples = time.monotonic(), request.samples
    judged, truths, misread = [], [], Counter[tuple[str, str, str]]()
    for number in range(samples):
        on_progress(number, samples)
        shot = captioned_shot(settings.seed, number)
        noise = replace(settings, seed=(settings.seed + number) % 2**31)
        (made,) = film(model, [shot.caption], noise).shots()
        one = _judge(shot, made.pixels)
        judged.append(one if number < SHOWN else replace(one, pixels=one.pixels[:0].clone()))
        truths.append(_judge(shot, decode(encode_true(shot, model), model)).agreement)
        misread.update(_mistakes(shot, judged[-1]))
    on_progress(samples, samples)
    return CaptionReport(
        settings=settings,
        revision=model.revision,
        steps=settings.steps or model.defaults.steps,
        samples=samples,
        rates=_rates([one.agreement for one in judged]),
        ceiling=_rates(truths),
        confusions=tuple((*what, count) for what, count in misread.most_common(20)),
        examples=tuple(judged[:SHOWN]),
        elapsed_seconds=time.monotonic() - start,
    )


def _judge(shot: ShotSpec, pixels: Tensor) -> JudgedShot:
    reading = read_shot(pixels)
    return JudgedShot(
        caption=shot.caption, pixels=pixels, reading=reading, agreement=agreement(reading, shot)
    )


def _rates(agreements: list[dict[str, bool]]) -> dict[str, Rate]:
    rates = {name: Rate.of(one[name] for one in agreements) for name in ATTRIBUTES}
    return rates | {"all": Rate.of(all(one.values()) for one in agreements)}


def _mistakes(shot: ShotSpec, judged: JudgedShot) -> list[tuple[str, str, str]]:
    """(attribute, asked for, shown) of what was not as the caption says."""
    reading, look = judged.reading, judged.reading.match.look
    pairs = {
        "place": (shot.place, reading.place),
        "motion": (shot.motion, reading.motion),
        "shape": (shot.look.shape, look.shape),
        "pattern": (shot.look.pattern, look.pattern),
        "colours": (_pair(shot.look.color, shot.look.color2), _pair(look.color, look.color2)),
    }
    return [(name, *pairs[name]) for name, right in judged.agreement.items() if not right]


def _pair(color: str, color2: str | None) -> str:
    return " and ".join(sorted(filter(None, (color, color2))))
