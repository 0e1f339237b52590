"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """A time span: 0.8 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float, digits: int = 2) -> str:
    """A number without superfluous zeros: 8, 29.97."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def plural(count: int, noun: str) -> str:
    """1 shot, 2 shots."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shots_and_cuts(begins: Sequence[float]) -> str:
    """1 shot; 3 shots (cuts at 1.25, 4 s): from the seconds at which shots begin."""
    cuts = ", ".join(number(begin) for begin in begins[1:])
    return plural(len(begins), "shot") + (
        f" ({'cuts' if len(begins) > 2 else 'cut'} at {cuts} s)" if cuts else ""
    )


def size_in_bytes(count: int) -> str:
    """A number of bytes: 4.2 GB, 16 MB, 300 bytes."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{number(count / unit, 1 if count < 100 * unit else 0)} {name}"
    return plural(count, "byte")
