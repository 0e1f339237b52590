"""Writes a report to a folder: numbers, tensors, pictures and a page; all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.torch import save

from mocgen.errors import OutputError

from .numbers import to_json
from .report import RoutingReport
from .statistics import statistics
from .summary import summary

AXES = "layer, head, query context, key context"
PAGE = "index.html"
NUMBERS = "routing.json"


def write_report(
    report: RoutingReport,
    out: Path,
    *,
    thumbnails: Mapping[int, NDArray[Any] | None],
    captions: Sequence[str],
    settings: Mapping[str, object],
    video: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write `index.html`, `routing.json`, `routing.safetensors` and PNG pictures to the folder `out`.

    Args:
        report: what was recorded.
        out: a folder that does not exist or is empty; its parents are made.
        thumbnails: for a context's index a uint8 picture (h, w, 3) of its frames, all of one size.
        captions: of every shot; fewer are filled up with empty ones.
        settings: how the run was made, as shown on the page and kept in `routing.json`.
        video: the video that was made; a copy goes into the folder, and the page plays it.
        overwrite: replace a report that is there already.

    Raises:
        OutputError: the folder holds something already (with `overwrite`: something that is not such a
            report), or cannot be written.
    """
    from . import page, pictures  # they load matplotlib, which a run without a report does not need

    check_folder(out, overwrite=overwrite)
    numbers = statistics(report)
    sentences = summary(report, numbers)
    with _all_or_nothing(out) as folder:
        tensors = {
            "counts": report.counts,
            "mass": report.mass,
            "anchors": report.anchors,
            "candidates": report.candidates,
            "token_steps": report.token_steps,
        }
        metadata = {"counts": AXES, "mass": AXES, "token_steps": "layer, query context"}
        (folder / "routing.safetensors").write_bytes(save(tensors, metadata))
        text = to_json(report, numbers, sentences, captions, settings)
        (folder / NUMBERS).write_text(text, encoding="utf-8")
        if video is not None:
            shutil.copyfile(video, folder / video.name)
        pictures.draw_all(report, numbers, thumbnails, folder)
        text = page.render(
            report,
            numbers,
            sentences,
            thumbnails=thumbnails,
            captions=captions,
            settings=settings,
            folder=folder,
            video=video.name if video else None,
        )
        (folder / PAGE).write_text(text, encoding="utf-8")


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError if `write_report` would refuse this folder; call it before a long run."""
    try:
        if not os.path.lexists(out):
            return
        if not out.is_dir():
            raise OutputError(f"{out} exists and is not a folder; name another one for the report")
        if not any(out.iterdir()):
            return
    except OSError as error:
        raise OutputError(f"cannot read {out}: {error.strerror}; name another folder") from error
    if not overwrite:
        raise OutputError(f"{out} is not empty; name another folder or pass --overwrite")
    if not (out / NUMBERS).is_file():
        raise OutputError(f"{out} holds files that are no routing report; name another folder")


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well and vanishes otherwise."""
    partial = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.partial")
    replaced = partial.with_suffix(".replaced")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
