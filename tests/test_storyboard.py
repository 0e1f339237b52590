"""Storyboard files and prompts → scenes; every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mocgen.errors import UsageError
from mocgen.storyboard import Scene, Shot, load_storyboard, scene_from_prompts

SCENE = Scene(
    prompt="a toy world", shots=(Shot(caption="a red star", seconds=2.5), Shot(caption="a blue disc"))
)
TOML = """prompt = "a toy world"
[[shots]]
caption = "a red star"
seconds = 2.5
[[shots]]
caption = "a blue disc"
"""
JSON = """{"prompt": "a toy world",
 "shots": [{"caption": "a red star", "seconds": 2.5}, "a blue disc"]}"""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.toml", TOML),
        ("s.TOML", TOML.replace("\n", "\r\n")),
        ("s.json", JSON),
        ("s.json", b"\xef\xbb\xbf" + JSON.encode()),
    ],
)
def test_toml_and_json_hold_the_same_scene(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert load_storyboard(write(tmp_path, name, content)) == SCENE


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.txt", "# two shots\n\n  a red star  \r\na blue disc"),
        ("s.json", '["a red star", {"caption": " a blue disc "}]'),
        ("s.toml", 'shots = ["a red star", "a blue disc"]'),
    ],
)
def test_captions_alone_are_enough(tmp_path: Path, name: str, content: str) -> None:
    scene = load_storyboard(write(tmp_path, name, content))
    assert scene == scene_from_prompts(["a red star", "a blue disc"])


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("s.toml", 'prompt = "a"\n[[shots]]\ncaption = \n', "s.toml, line 3: not valid TOML"),
        (
            "s.toml",
            'prompt = "a"\n[[shots]]\ncaption = "b"\ncaption = "c"\n',
            "s.toml, line 4: not valid TOML",
        ),
        ("s.toml", '[[shots]]\ncaption = """never closed\n', "s.toml, line 2: not valid TOML"),
        ("s.json", '[\n"a star",\n"a disc"\n"a ring"]', "s.json, line 4: not valid JSON"),
        ("s.json", "", "s.json, line 1: not valid JSON"),
        ("s.json", '{"shots": ["a star"], "shots": ["a disc"]}', "s.json: 'shots' stands twice"),
        ("s.json", '[{"caption": "a star", "seconds": ' + "9" * 5000 + "}]", "s.json: not valid JSON: a"),
        ("s.toml", "seconds = " + "9" * 5000, "s.toml: not valid TOML: a number"),
        ("s.txt", b"a star\na disc\na \xff ring\n", "s.txt, line 3: not UTF-8 text"),
    ],
)
def test_a_syntax_error_is_named_with_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, place: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_storyboard(write(tmp_path, name, content))
    assert str(caught.value).startswith(f"{tmp_path}/{place}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.toml", 'title = "x"\nshots = ["a"]', "unknown key 'title'; the keys are prompt, shots"),
        (
            "s.toml",
            '[[shots]]\ncaption = "a"\n[[shots]]\ncaptoin = "b"\nfps = 3',
            "shot 2: unknown keys 'captoin', 'fps'",
        ),
        ("s.toml", '[shots]\ncaption = "a"', "must be a list"),
        ("s.toml", "", "no shots"),
        ("s.txt", "# nothing\n", "no shots"),
        ("s.json", "[]", "no shots"),
        ("s.json", "3", "a storyboard holds a list of shots"),
        ("s.json", '["a", 3]', "shot 2: must be a caption"),
        ("s.json", '["a", " "]', "shot 2: the caption is empty"),
        ("s.json", '[{"seconds": 2}]', "shot 1: the caption is empty"),
        ("s.json", '[{"caption": 3}]', "shot 1: the caption must be text"),
        ("s.json", '{"prompt": 3, "shots": ["a"]}', "prompt must be text"),
        ("s.json", '[{"caption": "a", "seconds": "2"}]', "shot 1: seconds must be a number"),
        ("s.json", '[{"caption": "a", "seconds": true}]', "shot 1: seconds must be a number"),
        ("s.json", '[{"caption": "a", "seconds": -2}]', "shot 1: seconds must be from"),
        ("s.json", '[{"caption": "a", "seconds": NaN}]', "shot 1: seconds must be from"),
        ("s.json", '["\\ud800"]', "not valid UTF-8"),
        ("s.json", "[" * 100_000, "nested too deeply"),
        ("s.yaml", "shots: []", ".toml, .json or .txt"),
    ],
)
def test_every_other_mistake_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(UsageError) as caught:
        load_storyboard(path)
    assert name in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such storyboard file"):
        load_storyboard(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_storyboard(tmp_path / "folder.toml")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([], "no prompt"), ([""], "the prompt is empty"), (["a", "\t"], "prompt 2 is empty")],
)
def test_empty_prompts_are_refused(prompts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scene_from_prompts(prompts)
