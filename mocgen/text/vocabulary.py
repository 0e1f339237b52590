"""The embedded model's vocabulary: the words it knows, and what it did not understand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+")
PADDING = 0


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption as word ids, and its words that the vocabulary does not hold, in order."""

    ids: tuple[int, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words in the order of their ids (the first has id 1), and words that carry no meaning."""

    words: tuple[str, ...]
    stop_words: frozenset[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {word: i for i, word in enumerate(self.words, start=1)})

    @classmethod
    def of(cls, words: Iterable[str], stop_words: Iterable[str]) -> Vocabulary:
        """A vocabulary of these words in alphabetical order, without the stop words."""
        stop = frozenset(stop_words)
        return cls(words=tuple(sorted(set(words) - stop)), stop_words=stop)

    def __len__(self) -> int:
        """Number of ids, padding included."""
        return len(self.words) + 1

    def read(self, text: str) -> Caption:
        """Split a caption into words; case and punctuation do not matter, stop words are dropped."""
        ids, unknown = [], []
        for word in _WORD.findall(text.lower()):
            if word in self.stop_words:
                continue
            found = next((form for form in _forms(word) if form in self._ids), None)  # type: ignore[attr-defined]
            if found is None:
                unknown.append(word)
            else:
                ids.append(self._ids[found])  # type: ignore[attr-defined]
        return Caption(ids=tuple(ids), unknown=tuple(dict.fromkeys(unknown)))

    def padded(self, text: str, *, multiple: int, limit: int) -> tuple[int, ...]:
        """Word ids padded to a multiple of `multiple` (at least one), cut at `limit`."""
        ids = self.read(text).ids[:limit]
        return pad(ids, max(multiple, -(-len(ids) // multiple) * multiple))


def pad(ids: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Word ids followed by padding up to `length`."""
    return (*ids, *[PADDING] * (length - len(ids)))


def _forms(word: str) -> Iterable[str]:
    """The word, and simpler forms of it: plurals, -ing, -ed."""
    yield word
    for ending, instead in (
        ("s", ""),
        ("es", ""),
        ("ing", "s"),
        ("ing", "es"),
        ("ing", ""),
        ("ed", "s"),
        ("ed", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            yield word[: -len(ending)] + instead
    yield word + "s"
