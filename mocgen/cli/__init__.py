"""The command line: the only part of mocgen that prints and exits."""

try:
    from mocgen.cli.app import main
except KeyboardInterrupt:  # before there is anything to tell
    raise SystemExit(130) from None

__all__ = ["main"]
