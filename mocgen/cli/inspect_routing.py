"""`mocgen inspect-routing`: what was retrieved while a video was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mocgen.cli.options import ClipPrompts, Prompts, Repeat, RunOptions, takes_run_options

EXAMPLES = """
Examples:
  mocgen inspect-routing "a red star" "the star spins" --out routing
  mocgen inspect-routing --clip boat.mp4 "the boat turns" --out routing
  mocgen inspect-routing --repeat star.mp4 --out routing
  mocgen inspect-routing --repeat star.mp4 --no-causal --out loops
Then open routing/index.html in a browser.
"""

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report.")]
Clip = Annotated[
    Path | None, typer.Option(metavar="CLIP", help="Watch how this clip is extended by the PROMPTs.")
]


@takes_run_options
def inspect_routing(
    prompts: Prompts = None,
    *,
    out: Out,
    clip: Clip = None,
    clip_prompt: ClipPrompts = None,
    repeat: Repeat = None,
    options: RunOptions,
) -> None:
    """Run generate, or extend with --clip, and show which contexts each shot retrieved."""
    from mocgen.cli.progress import show_progress
    from mocgen.cli.request import read_request
    from mocgen.cli.summary import print_inspection
    from mocgen.errors import UsageError
    from mocgen.video import probe

    if clip is not None and repeat is not None:
        raise UsageError("--clip and --repeat were both given; use one of them")
    if clip is None and clip_prompt:
        raise UsageError("--clip-prompt says what a --clip shows; name one")
    request = read_request(prompts, options, clip_prompts=clip_prompt, repeat=repeat)
    if clip is not None:
        probe(clip)  # a bad clip is refused before the model is loaded
    with show_progress(quiet=options.quiet) as on_event:
        from mocgen.pipeline import inspect_routing as run
        from mocgen.routing import check_folder

        check_folder(out, overwrite=options.overwrite)
        inspection = run(
            request.scene, out, request.settings, clip=clip, overwrite=options.overwrite, on_event=on_event
        )
    print_inspection(inspection, options.format)
