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
from .open_prompts import concept_rates, load_prompts, shown, text_of, understand
from .rates import Rate
from .reading import ATTRIBUTES, Reading, agreement, decode, encode_true, read_shot
from .requests import CaptionsRequest, PromptsName
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
    prompts: PromptsName
    rates: dict[
        str, Rate
    ]  # of each of ATTRIBUTES, and "all" of them at once; open prompts: see concept_rates
    ceiling: dict[str, Rate]  # true frames through the codec, read in the same way; open prompts: understood
    false_readings: Rate | None  # open prompts: of words without meaning, those that were given one
    confusions: tuple[tuple[str, str, str, int], ...]  # attribute, asked for, shown, how often
    examples: tuple[JudgedShot, ...]
    elapsed_seconds: float


def measure_captions(
    model: NativeModel, request: CaptionsRequest, settings: Settings, *, on_progress: OnProgress
) -> CaptionReport:
    """Generate and read single shots. A function of its arguments, but for the time.

    Raises UsageError for settings that the model cannot carry out.
    """
    if request.prompts == "open":
        return _measure_open(model, request, settings, on_progress)
    start, samples = time.monotonic(), request.samples
    judged, truths, misread = [], [], Counter[tuple[str, str, str]]()
    for number in range(samples):
        on_progress(number, samples)
        shot = captioned_shot(settings.seed, number)
        pixels = _film(model, shot.caption, settings, number)
        reading = read_shot(pixels)
        judged.append(_judged(shot.caption, pixels, reading, agreement(reading, shot), number))
        truths.append(agreement(read_shot(decode(encode_true(shot, model), model)), shot))
        misread.update(_mistakes(shot, judged[-1]))
    on_progress(samples, samples)
    return CaptionReport(
        settings=settings,
        revision=model.revision,
        steps=settings.steps or model.defaults.steps,
        samples=samples,
        prompts="world",
        rates=_rates([one.agreement for one in judged]),
        ceiling=_rates(truths),
        false_readings=None,
        confusions=tuple((*what, count) for what, count in misread.most_common(20)),
        examples=tuple(judged[:SHOWN]),
        elapsed_seconds=time.monotonic() - start,
    )


def _measure_open(
    model: NativeModel, request: CaptionsRequest, settings: Settings, on_progress: OnProgress
) -> CaptionReport:
    """Generate and read shots of open prompts; the ceiling is what of them was understood."""
    start, prompts = time.monotonic(), load_prompts()[: request.samples]
    judged, misread = [], Counter[tuple[str, str, str]]()
    for number, prompt in enumerate(prompts):
        on_progress(number, len(prompts))
        pixels = _film(model, prompt.caption, settings, number)
        reading = read_shot(pixels)
        right = shown(reading, prompt.concepts)
        judged.append(_judged(prompt.caption, pixels, reading, right, number))
        found = _shown(reading)
        misread.update(
            (name, text_of(prompt.concepts.of(name)), found[name]) for name in right if not right[name]
        )
    on_progress(len(prompts), len(prompts))
    understanding = understand(model.vocabulary, prompts)
    return CaptionReport(
        settings=settings,
        revision=model.revision,
        steps=settings.steps or model.defaults.steps,
        samples=len(prompts),
        prompts="open",
        rates=concept_rates([one.agreement for one in judged]),
        ceiling=understanding.rates,
        false_readings=understanding.false_readings,
        confusions=tuple((*what, count) for what, count in misread.most_common(20)),
        examples=tuple(judged[:SHOWN]),
        elapsed_seconds=time.monotonic() - start,
    )


def _film(model: NativeModel, caption: str, settings: Settings, number: int) -> Tensor:
    """The frames of a shot, each number with another noise."""
    noise = replace(settings, seed=(settings.seed + number) % 2**31)
    (made,) = film(model, [caption], noise).shots()
    return made.pixels


def _judged(
    caption: str, pixels: Tensor, reading: Reading, right: dict[str, bool], number: int
) -> JudgedShot:
    """One shot; only the first ones keep their frames."""
    kept = pixels if number < SHOWN else pixels[:0].clone()
    return JudgedShot(caption=caption, pixels=kept, reading=reading, agreement=right)


def _rates(agreements: list[dict[str, bool]]) -> dict[str, Rate]:
    rates = {name: Rate.of(one[name] for one in agreements) for name in ATTRIBUTES}
    return rates | {"all": Rate.of(all(one.values()) for one in agreements)}


def _mistakes(shot: ShotSpec, judged: JudgedShot) -> list[tuple[str, str, str]]:
    """(attribute, asked for, shown) of what was not as the caption says."""
    asked = {
        "place": shot.place,
        "motion": shot.motion,
        "shape": shot.look.shape,
        "pattern": shot.look.pattern,
        "colours": _pair(shot.look.color, shot.look.color2),
    }
    found = _shown(judged.reading)
    return [(name, asked[name], found[name]) for name, right in judged.agreement.items() if not right]


def _shown(reading: Reading) -> dict[str, str]:
    """What was read, in words."""
    look = reading.match.look
    return {
        "place": reading.place,
        "motion": reading.motion,
        "shape": look.shape,
        "pattern": look.pattern,
        "colours": _pair(look.color, look.color2),
    }


def _pair(color: str, color2: str | None) -> str:
    return " and ".join(sorted(filter(None, (color, color2))))
