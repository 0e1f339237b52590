"""Exceptions → the one line that a user reads, and the exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable

import typer

from mocgen.errors import MocgenError

INTERRUPTED = 130

_OUT_OF_MEMORY = (
    "not enough memory; try --offload blocks, --quantize int8, --dtype bf16, a smaller --size or "
    "fewer --seconds"
)


def explain(error: Exception) -> str:
    """What went wrong and what to do, in one line."""
    message = next((describe(error) for applies, describe in _TABLE if applies(error)), _unexpected(error))
    return " ".join(message.split()).rstrip(".")


def exit_code(error: Exception) -> int:
    """2 for a request that cannot be carried out as typed, 1 for the rest."""
    return getattr(error, "exit_code", 1)


def _is_out_of_memory(error: Exception) -> bool:
    """Python's, and torch's by their names: torch must not be imported for this."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_about_weights(error: Exception) -> bool:
    """By the name too: mocgen_weights imports torch."""
    return any(kind.__name__ == "WeightsError" for kind in type(error).__mro__)


def _usage(error: Exception) -> str:
    """The command line parser's own errors: an unknown option, a missing argument, a word for a number."""
    assert isinstance(error, typer.TyperException)
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else "mocgen"
    message = (
        error.format_message().replace("Value error, ", "").replace("Input should", "it should").rstrip(".")
    )
    stop = "" if message.endswith("?") else "."
    return f"{message[:1].lower()}{message[1:]}{stop} See {command} --help"


def _disk_full(error: Exception) -> str:
    assert isinstance(error, OSError)
    where = f" while writing {error.filename}" if error.filename else ""
    return f"the disk is full{where}; free some space or write somewhere else with -o"


def _system(error: Exception) -> str:
    assert isinstance(error, OSError)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _unexpected(error: Exception) -> str:
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (please report it, with the traceback that --debug shows)"


_TABLE: tuple[tuple[Callable[[Exception], bool], Callable[[Exception], str]], ...] = (
    (lambda error: isinstance(error, MocgenError), str),
    (_is_about_weights, str),
    (lambda error: isinstance(error, typer.TyperException), _usage),
    (_is_out_of_memory, lambda error: _OUT_OF_MEMORY),
    (_is_disk_full, _disk_full),
    (lambda error: isinstance(error, OSError), _system),
)
