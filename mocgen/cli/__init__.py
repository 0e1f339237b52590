"""The command line: the only part of mocgen that prints and exits."""

from mocgen.cli.app import main

__all__ = ["main"]
