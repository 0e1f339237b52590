"""What was typed → the scene, the settings and the output of a run; refused before anything is loaded."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mocgen.cli.options import RunOptions
from mocgen.cli.recorded import read_recorded
from mocgen.errors import UsageError
from mocgen.settings import Settings
from mocgen.storyboard import Scene, load_storyboard, scene_from_prompts, with_clip_prompts


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run as it was asked for."""

    scene: Scene
    settings: Settings
    context_seconds: float | None = None  # of the clip, where one is extended


def read_request(
    prompts: list[str] | None,
    options: RunOptions,
    *,
    clip_prompts: list[str] | None = None,
    repeat: Path | None = None,
    extends: bool = False,
) -> Request:
    """The scene and the settings; what was typed wins over what the video `repeat` was made with.

    extends: whether a clip is to be extended, as it was for `repeat`.

    Raises:
        UsageError: the prompts, the storyboard or a value are bad, or contradict each other.
        ClipError: `repeat` cannot be read, or mocgen did not make it.
    """
    if prompts and options.storyboard:
        raise UsageError("prompts and --storyboard were both given; use one of them")
    typed = scene_from_prompts(prompts) if prompts else None
    if options.storyboard:
        typed = load_storyboard(options.storyboard)
    if repeat is None:
        scene = with_clip_prompts(typed or scene_from_prompts([]), clip_prompts or [])
        return Request(scene=scene, settings=_settings(options, Settings(seed=secrets.randbelow(2**31))))
    recorded = read_recorded(repeat, extends=extends)
    return Request(
        scene=with_clip_prompts(typed or recorded.scene, clip_prompts or recorded.scene.clip_prompts),
        settings=_settings(options, recorded.settings),
        context_seconds=recorded.context_seconds,
    )


def choose_output(output: Path | None, request: Request, *, overwrite: bool) -> Path:
    """Where the video goes: as typed, or under a free name made of the first prompt and the seed.

    Raises:
        UsageError: the name asks for a kind of file that mocgen does not write.
        OutputError: the output exists and may not be replaced, or its folder is missing or not writable.
    """
    from mocgen.video import check_output

    if output is None:
        output = _free_name(f"mocgen-{_slug(request.scene.shots[0].caption)}-{request.settings.seed}")
        overwrite = False
    check_output(output, overwrite)
    return output


def _settings(typed: RunOptions, base: Settings) -> Settings:
    return Settings(
        model=base.model if typed.model is None else typed.model,
        seconds=base.seconds if typed.seconds is None else typed.seconds,
        size=base.size if typed.size is None else _parse_size(typed.size),
        fps=base.fps if typed.fps is None else typed.fps,
        seed=base.seed if typed.seed is None else typed.seed,
        steps=base.steps if typed.steps is None else typed.steps,
        guidance=base.guidance if typed.guidance is None else typed.guidance,
        negative=base.negative if typed.negative is None else typed.negative,
        attention=base.attention if typed.attention is None else typed.attention,
        top_k=base.top_k if typed.top_k is None else typed.top_k,
        local_window=base.local_window if typed.local_window is None else typed.local_window,
        first_frame=base.first_frame if typed.first_frame is None else typed.first_frame,
        contexts=base.contexts if typed.contexts is None else typed.contexts,
        causal=base.causal if typed.causal is None else typed.causal,
        context_noise=base.context_noise if typed.context_noise is None else typed.context_noise,
        device=base.device if typed.device is None else typed.device,
        dtype=base.dtype if typed.dtype is None else typed.dtype,
        upscale=base.upscale if typed.upscale is None else typed.upscale,
        lora=base.lora if typed.lora is None else tuple(typed.lora),
        offload=base.offload if typed.offload is None else typed.offload,
        quantize=base.quantize if typed.quantize is None else typed.quantize,
        offline=typed.offline,  # says how to fetch the model, not what to make
    )


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if match is None:
        raise UsageError(f"size must be WIDTHxHEIGHT in pixels, such as 384x384, not {text!r}")
    return int(match[1]), int(match[2])


def _slug(caption: str) -> str:
    """The caption's first words, as they can stand in a file's name on any system."""
    words = re.findall(r"\w+", caption.lower())
    slug = ""
    for word in words:
        if slug and len(slug) + len(word) > 40:
            break
        slug = f"{slug}-{word[:40]}" if slug else word[:40]
    return slug or "video"


def _free_name(stem: str) -> Path:
    names = (f"{stem}-{n}.mp4" if n > 1 else f"{stem}.mp4" for n in count(1))
    return next(path for path in map(Path, names) if not path.exists())
