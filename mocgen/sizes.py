"""Tables of a config.json → dataclasses of sizes, with every entry checked by name."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def read_sizes(kind: type[T], table: object, name: str) -> T:
    """An instance of a flat dataclass of switches, numbers, and tuples of whole numbers, all above zero.

    Raises ValueError naming the entry (`name` is the table's) that is unknown, of another kind, or not
    above zero.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{name} must be an object")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in set(table) - known)
    if unknown:
        raise ValueError(f"{name}.{unknown[0]} is not known")
    return kind(**{key: _number(hints[key], value, f"{name}.{key}") for key, value in table.items()})


def read_words(words: object, name: str) -> tuple[str, ...]:
    """A list of words; raises ValueError if it is something else."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{name} must be a list of words")
    return tuple(words)


def _number(kind: Any, value: object, name: str) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
        return value
    if type(None) in typing.get_args(kind):
        return None if value is None else _number(int, value, name)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list of whole numbers")
        return tuple(_number(int, item, name) for item in value)
    allowed = (int, float) if kind is float else (int,)
    if not isinstance(value, allowed) or isinstance(value, bool) or not 0 < value < math.inf:
        what = "number" if kind is float else "whole number"
        raise ValueError(f"{name} must be a {what} above zero, not {value!r}")
    return kind(value)
