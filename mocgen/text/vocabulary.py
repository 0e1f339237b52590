"""The embedded model's vocabulary: the words it knows, and what it did not understand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mocgen.text.concepts import WordTable
from mocgen.text.reading import OpenReader, Reading
from mocgen.text.roles import Token, tokenize

PADDING = 0


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption as word ids, its words that were not understood, and those that were read as others."""

    ids: tuple[int, ...]
    unknown: tuple[str, ...]
    read_as: tuple[tuple[str, str], ...] = ()  # "crimson", "red"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words in the order of their ids (the first has id 1), and words that carry no meaning.

    With a `reader` other words are read as concepts that these words can say.
    """

    words: tuple[str, ...]
    stop_words: frozenset[str]
    reader: OpenReader | None = field(default=None, compare=False)

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

    def opened(self, table: WordTable) -> Vocabulary:
        """This vocabulary, reading words that it does not hold with a table."""
        return replace(self, reader=OpenReader(table, frozenset(self.words)))

    def read(self, text: str) -> Caption:
        """Split a caption into words; case and punctuation do not matter, stop words are dropped."""
        tokens = tokenize(text)
        words = [self._word_ids(token.word) for token in tokens]
        known = [bool(ids) or token.word in self.stop_words for ids, token in zip(words, tokens, strict=True)]
        unknown, read_as = [], []
        for reading in self._readings(tokens, known):
            concept = reading.match.concept if reading.match else None
            if concept is None or not concept.phrase:
                unknown.append(reading.text)
                continue
            ids = tuple(self._ids[word] for word in concept.phrase)  # type: ignore[attr-defined]
            words[reading.start : reading.start + reading.count] = [()] * reading.count
            if not {one for own in words for one in own}.issuperset(ids):
                words[reading.start] = ids
            read_as.append((reading.text, concept.name))
        read = {text for text, _ in read_as}
        return Caption(
            ids=sum(words, ()),
            unknown=tuple(word for word in dict.fromkeys(unknown) if word not in read),
            read_as=tuple(dict.fromkeys(read_as)),
        )

    def _word_ids(self, word: str) -> tuple[int, ...]:
        """The id of a word, or of a simpler form of it; none of stop words and unknown ones."""
        if word in self.stop_words:
            return ()
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        return next(((ids[form],) for form in _forms(word) if form in ids), ())

    def _readings(self, tokens: Sequence[Token], known: Sequence[bool]) -> Iterable[Reading]:
        if self.reader is not None:
            return self.reader.read(tokens, known)
        return (
            Reading(start=number, count=1, text=token.word)
            for number, token in enumerate(tokens)
            if not known[number]
        )

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
