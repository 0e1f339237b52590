"""extend --clip-prompt: what a clip shows, shot by shot, and how the clip is cut for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mocgen
from mocgen.bundle import load_bundle
from mocgen.codec.embedded import to_unit_range
from mocgen.errors import UsageError
from mocgen.video import read_attachment, read_frames

STAR, CUBE, RING = "a red star spins in the desert", "a blue cube bounces under the sea", "the hero grows"


def captions(*texts: str) -> list[str]:
    """The options that give these."""
    return [part for text in texts for part in ("--clip-prompt", text)]


def stored_captions(name: str) -> list[str]:
    """Of every piece that is remembered with a video."""
    payload = read_attachment(Path(name))
    assert payload is not None
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    found: list[str] = json.loads(header["__metadata__"]["mocgen"])["captions"]
    return found


def test_no_piece_straddles_a_cut_and_each_ends_with_its_shot(
    film, make_film, latents_of, tiny_model: str
) -> None:
    lengths, pieces = (8, 5, 13, 2, 16), [(8,), (4,), (4, 8), (2,), (8, 8)]
    clip = make_film("clip.mp4", lengths)
    film("extend", "clip.mp4", STAR, "-o", "out.mp4", "--steps", "1")
    model = load_bundle(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    frames, expected = np.stack(list(read_frames(clip))), []
    for end, parts in zip(np.cumsum(lengths), pieces, strict=True):
        for part in np.split(frames[end - sum(parts) : end], np.cumsum(parts)[:-1]):
            still = np.repeat(part[:1], -len(part) % 4, axis=0)
            with torch.inference_mode():
                expected.append(
                    model.codec.encode(to_unit_range(torch.from_numpy(np.concatenate((still, part)))))
                )
    found = latents_of("out.mp4")[:-1]
    assert [len(piece) for piece in expected] == [8, 4, 4, 8, 4, 8, 8]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours[0], theirs)


def test_each_shot_is_remembered_under_its_own_caption(film, make_film, latents_of) -> None:
    make_film("clip.mp4", (8, 16, 8))
    made = film("extend", "clip.mp4", RING, "-o", "own.mp4", *captions("the hero spins", CUBE, STAR))
    assert made["clip_shots"] == [
        {"begin": 0, "caption": "the hero spins"},
        {"begin": 1, "caption": CUBE},
        {"begin": 3, "caption": STAR},
    ]
    assert stored_captions("own.mp4") == ["the hero spins", CUBE, CUBE, STAR, RING]
    film("extend", "clip.mp4", RING, "-o", "one.mp4", *captions("the hero spins"))
    assert stored_captions("one.mp4") == ["the hero spins"] * 4 + [RING]
    film("extend", "clip.mp4", RING, "-o", "none.mp4")
    assert stored_captions("none.mp4") == [""] * 4 + [RING]
    own, one, none = (latents_of(f"{name}.mp4") for name in ("own", "one", "none"))
    assert all(a.equal(b) and b.equal(c) for a, b, c in zip(own[:4], one[:4], none[:4], strict=True))
    assert not any(a[-1].equal(b[-1]) for a, b in ((own, one), (one, none), (own, none)))


@pytest.mark.parametrize(
    ("lengths", "typed", "line"),
    [
        ((8, 5, 8), captions(STAR, CUBE), "the clip shows 3 shots, with cuts at 1, 1.625 s: give 3, or one"),
        ((8, 8), captions(STAR, CUBE, RING), "3 clip prompts were given, but the clip shows 2 shots"),
        ((8,), captions(STAR, CUBE), "the clip shows one shot: give one --clip-prompt"),
        (
            (8, 8, 8),
            [*captions(STAR, CUBE, RING), "--context-seconds", "1.5"],
            "the clip shows 2 shots from 1.5 s on, with a cut at 2 s: give 2",
        ),
        ((8, 8), captions(STAR, " "), "a clip prompt is empty"),
    ],
)
def test_captions_that_do_not_fit_are_refused_with_the_cuts(
    run_mocgen, make_film, tiny_model: str, lengths: tuple[int, ...], typed: list[str], line: str
) -> None:
    make_film("clip.mp4", lengths)
    outcome = run_mocgen("extend", "clip.mp4", RING, "--model", tiny_model, "-o", "out.mp4", *typed)
    assert outcome.code == 2
    assert line in outcome.err
    assert [path.name for path in Path().iterdir()] == ["clip.mp4"]


def test_stored_captions_are_replaced_and_stored_shots_counted(
    film, run_mocgen, make_film, latents_of, tiny_model: str
) -> None:
    """The clip's 2 shots in 3 pieces, and one that the model made: 3 shots to speak of."""
    make_film("clip.mp4", (8, 16))
    film("extend", "clip.mp4", STAR, "-o", "one.mp4", *captions("the hero spins", CUBE))
    film("extend", "one.mp4", RING, "-o", "kept.mp4")
    made = film("extend", "one.mp4", RING, "-o", "new.mp4", *captions(CUBE, "the hero spins", STAR))
    assert stored_captions("kept.mp4") == ["the hero spins", CUBE, CUBE, STAR, RING]
    assert stored_captions("new.mp4") == [CUBE, "the hero spins", "the hero spins", STAR, RING]
    assert [shot["begin"] for shot in made["clip_shots"]] == [0, 1, 3]
    kept, new = latents_of("kept.mp4"), latents_of("new.mp4")
    assert [a.equal(b) for a, b in zip(kept, new, strict=True)] == [True] * 4 + [False]
    outcome = run_mocgen(
        "extend", "kept.mp4", RING, "--model", tiny_model, "-o", "bad.mp4", *captions(CUBE, STAR)
    )
    assert outcome.code == 2
    assert "the clip shows 4 shots, with cuts at 1, 3, 4 s" in outcome.err


def test_an_extension_can_be_repeated_and_tells_of_the_clip(film, run_mocgen, make_film) -> None:
    make_film("clip.mp4", (8, 8, 8), held=3)
    typed = (*captions("the hero spins", CUBE), "--context-seconds", "2", "--seed", "9")
    film("extend", "clip.mp4", RING, "-o", "out.mp4", *typed)
    again = film("extend", "clip.mp4", "--repeat", "out.mp4", "-o", "again.mp4")
    assert (again["seed"], len(again["clip_shots"])) == (9, 2)
    assert Path("again.mp4").read_bytes() == Path("out.mp4").read_bytes()
    other = film("extend", "clip.mp4", "--repeat", "out.mp4", "-o", "other.mp4", *captions(STAR))
    assert [shot["caption"] for shot in other["clip_shots"]] == [STAR, STAR]
    record: dict[str, Any] = run_mocgen("info", "out.mp4", "--format", "json").json["mocgen"]
    assert record["clip_prompts"] == ["the hero spins", CUBE]
    assert record["clip_shots"] == [
        {"begin": 1, "caption": "the hero spins"},
        {"begin": 2, "caption": CUBE},
    ]
    out = run_mocgen("info", "out.mp4").out
    assert "2 shots (cut at 2 s) remembered" in out
    assert all(line in out for line in ("clip shot 1", "the hero spins", "clip shot 2", CUBE))


def test_unknown_words_of_captions_are_told(film, make_film) -> None:
    make_film("clip.mp4", (8,))
    made = film("extend", "clip.mp4", RING, "-o", "out.mp4", *captions("a crimson star in qqqq style"))
    assert "qqqq" in made["unknown_words"]
    assert made["read_words"]["crimson"] == "red"


def test_reports_of_routing_take_captions_too(film, run_mocgen, make_film, tiny_model: str) -> None:
    make_film("clip.mp4", (8, 8))
    typed = captions("the hero spins", CUBE)
    film("inspect-routing", "--clip", "clip.mp4", RING, "--out", "report", *typed)
    report = json.loads(Path("report/routing.json").read_text())
    assert report["captions"] == ["the hero spins", CUBE, RING]
    outcome = run_mocgen("inspect-routing", RING, "--model", tiny_model, "--out", "other", *typed)
    assert outcome.code == 2
    assert "--clip-prompt says what a --clip shows" in outcome.err


def test_captions_without_a_clip_are_refused(tiny_model: str, tmp_path: Path) -> None:
    scene = mocgen.Scene(shots=(mocgen.Shot(caption=STAR),), clip_prompts=(CUBE,))
    with pytest.raises(UsageError, match="no clip was given"):
        mocgen.generate(scene, tmp_path / "out.mp4", mocgen.Settings(model=tiny_model))
