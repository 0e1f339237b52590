"""`mocgen extend`: a clip goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mocgen.cli.options import ClipPrompts, Output, Prompts, RunOptions, takes_run_options

EXAMPLES = """
Examples:
  mocgen extend holiday.mp4 "the boat turns round"
  mocgen extend star.mp4 "the star spins" "the star leaves" --seconds 2
  mocgen extend long.mp4 "the sun sets" --context-seconds 20 -o sunset.mp4
  mocgen extend trip.mov "it dives" --clip-prompt "a ship" --clip-prompt "a fish"
  mocgen extend trip.mov --repeat longer.mp4 -o again.mp4
"""

Clip = Annotated[Path, typer.Argument(metavar="CLIP", help="The video to extend.")]
ContextSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="S", help="Remember only the clip's last S seconds. Default: 60; Wan checkpoints: 2."
    ),
]
Repeat = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Take prompts and settings from a video that mocgen extended; what you type here wins.",
    ),
]


@takes_run_options
def extend(
    clip: Clip,
    prompts: Prompts = None,
    *,
    output: Output = None,
    clip_prompt: ClipPrompts = None,
    context_seconds: ContextSeconds = None,
    repeat: Repeat = None,
    options: RunOptions,
) -> None:
    """Extend a clip of any kind by one shot per PROMPT; its own frames, size, rate and sound are kept."""
    from mocgen.cli.progress import show_progress
    from mocgen.cli.request import choose_output, read_request
    from mocgen.cli.summary import print_result
    from mocgen.settings import check_seconds
    from mocgen.video import probe

    request = read_request(prompts, options, clip_prompts=clip_prompt, repeat=repeat, extends=True)
    if context_seconds is None:
        context_seconds = request.context_seconds
    else:
        check_seconds(context_seconds, "context-seconds")
    probe(clip)  # a bad clip is refused before the model is loaded
    path = choose_output(output, request, overwrite=options.overwrite)
    with show_progress(quiet=options.quiet) as on_event:
        from mocgen.pipeline import extend as run

        result = run(
            clip,
            request.scene,
            path,
            request.settings,
            context_seconds=context_seconds,
            overwrite=options.overwrite,
            on_event=on_event,
        )
    print_result(result, options.format, repeatable=False)
