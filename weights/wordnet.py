"""WordNet 3.0: what words mean, and words for things that can be seen.

Its files are those of Debian's package wordnet-base; see https://wordnet.princeton.edu/documentation/wndb5wn
for their format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = ("noun", "verb", "adj")
# files of its lexicographers, by number
SEEN = {  # artifact, food, location, object, phenomenon, shape; motion
    "noun": ("06", "13", "15", "17", "19", "25"), "verb": ("38",)
}  # fmt: skip
SEEN_IF_COMMON = {  # animal, plant, substance; change, contact
    "noun": ("05", "20", "27"), "verb": ("30", "35")
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A word as a part of speech: how often texts that WordNet counted have it, and its senses by frequency.

    senses: the number of the lexicographers' file and the definition.
    """

    count: int
    senses: tuple[tuple[str, str], ...]


class WordNet:
    """Single words of a folder's index and data files."""

    def __init__(self, folder: Path) -> None:
        self.entries = {part: dict(_entries(folder, part)) for part in PARTS}
        header = [line[2:].split(" ", 1)[1].strip() for line in _lines(folder / "data.noun", header=True)]
        self.licence = " ".join(header)

    def definitions(self, forms: list[str]) -> list[str]:
        """Two definitions as the commonest part of speech of a word, and one as the next.

        forms: the word and simpler ones that it may be made from.
        """
        found = [next((own[form] for form in forms if form in own), None) for own in self.entries.values()]
        ranked = sorted((entry for entry in found if entry), key=lambda entry: -entry.count)
        senses = [sense for entry, most in zip(ranked, (2, 1), strict=False) for sense in entry.senses[:most]]
        return [definition for _, definition in senses]

    def seen_words(self) -> set[str]:
        """Words whose first sense is a thing, a place or a motion that can be seen, or a colour."""
        found = set()
        for part, own in self.entries.items():
            for word, entry in own.items():
                file, definition = entry.senses[0]
                common = entry.count > 0 and file in SEEN_IF_COMMON.get(part, ())
                color = part == "adj" and re.search(r"\bcolou?r\b", definition)
                if common or color or file in SEEN.get(part, ()):
                    found.add(word)
        return {word for word in found if len(word) > 2}


def _entries(folder: Path, part: str) -> Iterator[tuple[str, Entry]]:
    senses = {}
    for line in _lines(folder / f"data.{part}"):
        fields, gloss = line.split("|", 1)
        place, file = fields.split()[:2]
        senses[place] = (file, gloss.split(";")[0].strip().strip("()"))
    for line in _lines(folder / f"index.{part}"):
        word, *fields = line.split()
        if re.fullmatch(r"[a-z]+", word):
            pointers = int(fields[2])
            count, *places = fields[4 + pointers :]
            yield word, Entry(count=int(count), senses=tuple(senses[place] for place in places))


def _lines(path: Path, *, header: bool = False) -> list[str]:
    """The lines of a file, or its header, which is indented."""
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line for line in lines if line.startswith("  ") == header]
