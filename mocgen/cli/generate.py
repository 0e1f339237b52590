"""`mocgen generate`: a video from prompts."""

from __future__ import annotations

from mocgen.cli.options import Output, Prompts, Repeat, RunOptions, takes_run_options

EXAMPLES = """
Examples:
  mocgen generate "a red star glides right over the desert"
  mocgen generate "a red star in the desert" "the star in the snow" -o two.mp4
  mocgen generate --storyboard story.toml --size 640x640 -o s.webm
  mocgen generate --repeat two.mp4 --attention dense -o dense.mp4
  mocgen generate "a red star in the desert" --format json | jq -r .output
"""


@takes_run_options
def generate(
    prompts: Prompts = None, *, output: Output = None, repeat: Repeat = None, options: RunOptions
) -> None:
    """Generate a video: one shot per PROMPT, each remembering the earlier ones."""
    from mocgen.cli.progress import show_progress
    from mocgen.cli.request import choose_output, read_request
    from mocgen.cli.summary import print_result

    request = read_request(prompts, options, repeat=repeat)
    path = choose_output(output, request, overwrite=options.overwrite)
    with show_progress(quiet=options.quiet) as on_event:
        from mocgen.pipeline import generate as run

        result = run(request.scene, path, request.settings, overwrite=options.overwrite, on_event=on_event)
    print_result(result, options.format, repeatable=True)
