"""The options that commands share: each is declared once, here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from mocgen.settings import AttentionName, DeviceName, DtypeName, OffloadName, QuantizeName

FormatName = Literal["human", "json"]

_SAMPLING = "Sampling"
_ATTENTION = "Attention"
_MODEL = "Model"
_OUTPUT = "Output"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="What each shot shows: one quoted text per shot."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Name of the video: .mp4, .webm or .gif, or a folder of PNGs. Default: made of prompt and seed.",
    ),
]
ClipPrompts = Annotated[
    list[str] | None,
    typer.Option(
        "--clip-prompt",
        metavar="TEXT",
        help="What the clip shows: one text for all of it, or one for each of its shots, in order.",
    ),
]
Repeat = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Take prompts and settings from a video that mocgen generated; what you type here wins.",
    ),
]
Format = Annotated[
    FormatName,
    typer.Option(
        metavar="NAME",
        help="human (default), or json: one JSON object on stdout.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", metavar="", help="No progress, no notes.", rich_help_panel=_OUTPUT)
]
Offline = Annotated[
    bool,
    typer.Option("--offline", metavar="", help="Do not ask the Hub: what is in its cache must do."),
]
Debug = Annotated[bool, typer.Option("--debug", metavar="", hidden=True)]  # explained by mocgen --help


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of every command that runs the model. None: not typed."""

    storyboard: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the shots from a .toml, .json or .txt file."),
    ] = None
    seconds: Annotated[float | None, typer.Option(metavar="S", help="Length of each shot.")] = None
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Picture size in pixels, such as 384x384.")
    ] = None
    fps: Annotated[float | None, typer.Option(metavar="N", help="Frames per second.")] = None
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Same seed, same settings: same video. Default: random."),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Denoising steps per shot.", rich_help_panel=_SAMPLING),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="G", help="How closely to follow the prompts; 1 is off.", rich_help_panel=_SAMPLING
        ),
    ] = None
    negative: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to steer away from.", rich_help_panel=_SAMPLING)
    ] = None
    attention: Annotated[
        AttentionName | None,
        typer.Option(
            metavar="NAME",
            help="moc (default), or a baseline: dense, window, first-frame, random.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(metavar="K", help="How many contexts each token retrieves.", rich_help_panel=_ATTENTION),
    ] = None
    local_window: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of its own shot a token always sees N contexts on either side; the rest is retrieved.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    first_frame: Annotated[
        bool | None,
        typer.Option(
            "--first-frame/--no-first-frame",
            metavar="",
            help="Beside a local window, always see the first context of the own shot too.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    contexts: Annotated[
        str | None,
        typer.Option(
            metavar="N|RxC",
            help="What a context of a Wan checkpoint is: N latent frames (default: 1), or RxC tokens of one.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    causal: Annotated[
        bool | None,
        typer.Option(
            "--causal/--no-causal",
            metavar="",
            help="Retrieve from earlier shots only (default), or denoise all shots jointly.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    context_noise: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Remember finished shots with a share X of noise, such as 0.02: less drift of colours.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="embedded (default), OWNER/NAME or OWNER/NAME@REVISION on the hub, or a folder.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    device: Annotated[
        DeviceName | None,
        typer.Option(metavar="NAME", help="auto (default), cpu or cuda.", rich_help_panel=_MODEL),
    ] = None
    dtype: Annotated[
        DtypeName | None,
        typer.Option(metavar="NAME", help="auto (default), fp32 or bf16.", rich_help_panel=_MODEL),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:SCALE]",
            help="Merge a LoRA file (.safetensors) into the model; can be given several times.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    offload: Annotated[
        OffloadName | None,
        typer.Option(
            metavar="NAME",
            help="auto (default), none, or blocks: only two blocks' weights on the device at a time.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    quantize: Annotated[
        QuantizeName | None,
        typer.Option(
            metavar="NAME",
            help="int8 or fp8: hold the blocks' weights in eight bits (needs torchao).",
            rich_help_panel=_MODEL,
        ),
    ] = None
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            metavar="",
            help="Do not ask the Hub: what is in its cache must do.",
            rich_help_panel=_MODEL,
        ),
    ] = False
    upscale: Annotated[
        bool | None,
        typer.Option(
            "--upscale/--no-upscale",
            metavar="",
            help="Enlarge a small model's picture to a viewable size (default), or not.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", metavar="", help="Replace the output if it exists.", rich_help_panel=_OUTPUT
        ),
    ] = False
    format: Format = "human"
    quiet: Quiet = False
    debug: Debug = False


def takes_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command` one CLI option per field of RunOptions, in place of its parameter `options`."""
    signature = inspect.signature(command, eval_str=True)
    kinds = get_type_hints(RunOptions, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters: list[inspect.Parameter] = []
    for own in signature.parameters.values():
        if own.name != "options":
            parameters.append(own.replace(kind=keyword))
            continue
        for field in fields(RunOptions):
            parameter = inspect.Parameter(
                field.name, keyword, default=field.default, annotation=kinds[field.name]
            )
            parameters.append(parameter)

    @functools.wraps(command)
    def run(**typed: Any) -> None:
        options = RunOptions(**{field.name: typed.pop(field.name) for field in fields(RunOptions)})
        command(options=options, **typed)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run
