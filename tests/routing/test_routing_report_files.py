"""The folder of a report: complete, readable, and all or nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors import safe_open

from mocgen.errors import OutputError
from mocgen.routing import RoutingReport, statistics, write_report
from mocgen.routing.pictures.canvas import DPI
from mocgen.routing.pictures.rulers import Ruler, spans, thinned

PICTURES = ("heatmap.png", "mass.png", "layers.png", "shots.png", "memory.png", "shares.png")
FILES = {*PICTURES, "index.html", "routing.json", "routing.safetensors"}


def thumbnails_of(report: RoutingReport) -> dict[int, np.ndarray | None]:
    picture = np.full((12, 16, 3), 128, np.uint8)
    return {i: picture for i, label in enumerate(report.contexts) if label.kind == "video"}


def write(report: RoutingReport, out: Path, *, overwrite: bool = False, **changed) -> None:
    arguments = {
        "thumbnails": thumbnails_of(report),
        "captions": [f"shot <{shot}> & co" for shot in range(report.shots)],
        "settings": {"model": "embedded", "seed": 7, "top_k": 2},
    }
    write_report(report, out, overwrite=overwrite, **(arguments | changed))


class Page(HTMLParser):
    """Collects the pictures of a page and checks that its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_is_written(recorded, tmp_path: Path) -> None:
    report = recorded(3)
    write(report, tmp_path / "new" / "report")
    out = tmp_path / "new" / "report"
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in out.parent.iterdir()} == {"report"}
    for name in PICTURES:
        pixels = imread(out / name)
        assert min(pixels.shape[:2]) > 2 * DPI
        assert pixels.std() > 0.02


def test_numbers_can_be_read_back(recorded, tmp_path: Path) -> None:
    report = recorded(3)
    write(report, tmp_path / "report")
    numbers = json.loads((tmp_path / "report" / "routing.json").read_text(encoding="utf-8"))
    assert numbers["loops"] == 0
    assert numbers["settings"] == {"model": "embedded", "seed": 7, "top_k": 2}
    assert numbers["density"] == pytest.approx(statistics(report).density, abs=1e-6)
    assert len(numbers["contexts"]) == len(report.contexts)
    assert len(numbers["per_head"]) == report.layers * report.heads * 3
    entry = numbers["per_head"][-1]
    assert (entry["layer"], entry["head"], entry["shot"]) == (1, 1, 2)
    assert set(entry["share"]) == {"captions", "own_shot", "routed_past", "future"}
    assert numbers["per_head"][0]["entropy"] is None
    with safe_open(tmp_path / "report" / "routing.safetensors", "pt") as tensors:
        assert torch.equal(tensors.get_tensor("counts"), report.counts)
        assert torch.equal(tensors.get_tensor("mass"), report.mass)
        assert tensors.metadata()["counts"] == "layer, head, query context, key context"


def test_the_page_is_self_contained(recorded, tmp_path: Path) -> None:
    write(recorded(3), tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.images) == len(PICTURES) + 3  # a thumbnail for each shot
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "shot &lt;1&gt; &amp; co" in text
    assert "<td>7</td>" in text


def test_the_video_comes_along(recorded, tmp_path: Path) -> None:
    video = tmp_path / "a video.mp4"
    video.write_bytes(b"frames")
    write(recorded(2), tmp_path / "report", video=video)
    assert (tmp_path / "report" / "a video.mp4").read_bytes() == b"frames"
    page = Page()
    page.feed((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert "a%20video.mp4" in page.links
    assert video.exists()


def test_a_report_without_thumbnails_or_captions(recorded, tmp_path: Path) -> None:
    write(recorded(2), tmp_path / "report", thumbnails={}, captions=[])
    assert {path.name for path in (tmp_path / "report").iterdir()} == FILES


def test_a_single_shot_has_a_report(recorded, tmp_path: Path) -> None:
    write(recorded(1), tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == FILES


def test_an_empty_folder_is_taken(recorded, tmp_path: Path) -> None:
    write(recorded(1), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_a_full_folder_is_refused(recorded, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write(recorded(1), tmp_path)
    with pytest.raises(OutputError, match="no routing report"):
        write(recorded(1), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_report_is_replaced_only_when_asked(recorded, tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(recorded(1), out)
    with pytest.raises(OutputError, match="--overwrite"):
        write(recorded(2), out)
    write(recorded(2), out, overwrite=True)
    assert len(json.loads((out / "routing.json").read_text(encoding="utf-8"))["shots"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failure_leaves_nothing_and_keeps_the_old_report(recorded, tmp_path: Path) -> None:
    out, broken = tmp_path / "report", {2: np.zeros(5, np.uint8)}
    with pytest.raises((TypeError, ValueError, IndexError)):
        write(recorded(2), out, thumbnails=broken)
    assert list(tmp_path.iterdir()) == []
    write(recorded(1), out)
    before = (out / "routing.json").read_bytes()
    with pytest.raises((TypeError, ValueError, IndexError)):
        write(recorded(2), out, overwrite=True, thumbnails=broken)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (out / "routing.json").read_bytes() == before


def test_an_impossible_folder_is_an_output_error(recorded, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="not a folder"):
        write(recorded(1), tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write"):
        write(recorded(1), tmp_path / "file" / "report")


def test_a_clip_that_was_only_read_has_no_rows(recorded, tmp_path: Path) -> None:
    report = recorded(3)
    clip = [i for i, label in enumerate(report.contexts) if label.shot in (None, 0)]
    for tensor in (report.counts, report.mass):
        tensor[:, :, clip] = 0
    report.token_steps[:, clip] = 0
    write(report, tmp_path / "report")
    numbers = json.loads((tmp_path / "report" / "routing.json").read_text(encoding="utf-8"))
    assert [shot["shot"] for shot in numbers["shots"]] == [1, 2]
    tall, wide = imread(tmp_path / "report" / "heatmap.png").shape[:2]
    assert tall < wide


def test_sixty_shots_fit_a_sheet(recorded, tmp_path: Path) -> None:
    write(recorded(60), tmp_path / "report")
    for name in PICTURES:
        assert max(imread(tmp_path / "report" / name).shape[:2]) <= 20 * DPI


def test_thinned_labels_keep_their_distance() -> None:
    assert thinned([0.0, 1.0, 2.0, 3.0], 1.0) == [0, 1, 2, 3]
    assert thinned([0.0, 0.1, 0.2, 0.3, 0.4], 0.2) == [0, 2, 4]
    assert thinned([0.0], 5.0) == [0]


def test_rulers_group_contexts_by_shot(recorded) -> None:
    labels = recorded(2).contexts
    assert [(span.shot, span.first, span.end) for span in spans(labels)] == [
        (None, 0, 1),
        (0, 1, 4),
        (1, 4, 7),
    ]
    wide = Ruler("top", labels, range(7), {}, 0.4)
    narrow = Ruler("top", labels, range(7), {}, 0.05)
    assert wide.depth > narrow.depth  # narrow cells carry no names
