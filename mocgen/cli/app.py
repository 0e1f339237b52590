"""The `mocgen` command: its subcommands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from mocgen import __version__
from mocgen.cli import eval as evaluation
from mocgen.cli import extend, generate, info, inspect_routing, models, train
from mocgen.cli.failures import INTERRUPTED, exit_code, explain

_EXAMPLES = """
Examples:
  mocgen generate "a red star glides right over the desert" -o star.mp4
  mocgen extend star.mp4 "the red star spins in the snow" -o longer.mp4
  mocgen inspect-routing --repeat star.mp4 --out routing
  mocgen info longer.mp4
  mocgen eval recall --quick

Every command has its own examples: mocgen COMMAND --help
"""

app = typer.Typer(
    help="Makes long videos of many shots: each shot remembers the earlier ones by a Mixture of Contexts.",
    epilog=_EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command(epilog=generate.EXAMPLES)(generate.generate)
app.command(epilog=extend.EXAMPLES)(extend.extend)
app.command(epilog=inspect_routing.EXAMPLES)(inspect_routing.inspect_routing)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=train.EXAMPLES)(train.train)
app.add_typer(models.app, name="models")
app.add_typer(evaluation.app, name="eval")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mocgen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", metavar="", help="Show the traceback of an error (also: MOCGEN_DEBUG=1)."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (by default the process's own) and returns its exit code.

    0: done; 2: the request cannot be carried out as typed; 130: interrupted; 1: anything else went wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names of files may be anything
    try:
        code = get_command(app).main(list(arguments), prog_name="mocgen", standalone_mode=False)
        print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in arguments or os.environ.get("MOCGEN_DEBUG", "0") != "0":
            traceback.print_exception(error)
        print(f"mocgen: error: {explain(error)}", file=sys.stderr)
        return exit_code(error)
    if code == INTERRUPTED:
        print("mocgen: interrupted", file=sys.stderr)
    return code or 0


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP unwind the stack like Ctrl-C does, so that half-written files are removed."""
    raise SystemExit(128 + number)
