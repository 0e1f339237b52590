"""WordNet's files as the word table's maker reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wordnet import WordNet

FILES = {
    "data.noun": (
        "  1 Permission is\n  2 granted.  \n"
        '00000010 06 n 01 bat 0 001 @ 00000050 n 0000 | a club (of wood); "he swung a bat"  \n'
        "00000020 05 n 01 bat 0 000 | a flying mammal  \n"
        "00000030 09 n 01 theory 0 000 | a belief  \n"
        "00000040 05 n 02 wombat 0 badger 1 000 | a burrowing animal  \n"
    ),
    "index.noun": (
        "  1 Permission is\n"
        "bat n 2 1 @ 2 1 00000020 00000010  \n"
        "flying_fox n 1 0 1 0 00000020  \n"
        "theory n 1 0 1 9 00000030  \n"
        "wombat n 1 0 1 0 00000040  \n"
    ),
    "data.verb": "00000010 35 v 01 bat 0 000 01 + 08 00 | strike with a bat  \n",
    "index.verb": "bat v 1 0 1 5 00000010  \n",
    "data.adj": '00000010 00 a 01 dun 0 000 | of a dull brown color; "a dun horse"  \n',
    "index.adj": "dun a 1 0 1 0 00000010  \n",
}


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    return WordNet(tmp_path)


def test_two_definitions_of_the_commonest_part_of_speech_and_one_of_the_next(wordnet: WordNet) -> None:
    assert wordnet.definitions(["bats", "bat"]) == ["strike with a bat", "a flying mammal"]
    assert wordnet.definitions(["dun"]) == ["of a dull brown color"]
    assert wordnet.definitions(["flying", "fly"]) == []


def test_words_for_what_can_be_seen(wordnet: WordNet) -> None:
    assert wordnet.seen_words() == {"bat", "dun"}  # wombats are rarer, theories out of sight


def test_the_licence_is_the_header(wordnet: WordNet) -> None:
    assert wordnet.licence == "Permission is granted."
