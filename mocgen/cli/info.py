"""`mocgen info`: what a video is, and how mocgen made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mocgen.cli.options import Debug, Format
from mocgen.cli.wording import number, plural, shots_and_cuts

if TYPE_CHECKING:
    from mocgen.video import VideoInfo

EXAMPLES = """
Examples:
  mocgen info star.mp4
  mocgen info star.mp4 --format json | jq .mocgen.settings.seed
"""

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Any video, or a folder of PNGs that mocgen wrote.")
]


def info(file: File, format: Format = "human", debug: Debug = False) -> None:
    """Show what a video is and, if mocgen made it, its prompts and settings."""
    from mocgen.cli.recorded import read_record
    from mocgen.video import probe

    record = read_record(file)
    video = None if file.is_dir() else probe(file)
    if format == "json":
        typer.echo(json.dumps({"file": str(file), **(_facts(video) if video else {}), "mocgen": record}))
        return
    _print_table(file, video, record)


def _facts(video: VideoInfo) -> dict[str, object]:
    return {
        "width": video.width,
        "height": video.height,
        "fps": float(video.fps),
        "frames": video.frames,
        "seconds": video.seconds,
        "codec": video.codec,
        "pixel_format": video.pixel_format,
        "variable_rate": video.variable_rate,
        "has_audio": video.has_audio,
    }


def _print_table(file: Path, video: VideoInfo | None, record: dict[str, Any] | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from mocgen.cli.console import result_console

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (_rows(video) if video else []) + (_made_rows(record) if record else []):
        table.add_row(name, Text(value))
    console = result_console()
    console.print(Text(str(file), style="bold"), soft_wrap=True)
    console.print(table)
    if record is None:
        console.print("not made by mocgen, or another program rewrote it", style="dim")


def _rows(video: VideoInfo) -> list[tuple[str, str]]:
    rate = f"{number(float(video.fps))} fps" + (" (variable)" if video.variable_rate else "")
    sound = "with sound" if video.has_audio else "no sound"
    return [
        ("video", f"{video.width}x{video.height}, {rate}, {video.codec} ({video.pixel_format}), {sound}"),
        ("length", f"{number(video.seconds)} s ({plural(video.frames, 'frame')})"),
    ]


def _made_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows for what mocgen recorded; every part may be missing in what an older version wrote."""
    rows = [("made by", f"mocgen {record.get('version', '?')}, {record.get('command', '?')}")]
    if record.get("prompt"):
        rows.append(("prompt", str(record["prompt"])))
    for n, shot in enumerate(record.get("shots") or [], start=1):
        seconds = f" ({number(shot['seconds'])} s)" if shot.get("seconds") else ""
        rows.append((f"shot {n}", f"{shot.get('caption', '')}{seconds}"))
    if record.get("clip"):
        rows += _clip_rows(record)
    rows.append(("model", " ".join(str(record[key]) for key in ("model", "revision") if record.get(key))))
    settings: dict[str, Any] = record.get("settings") or {}
    shown = {
        name: value for name, value in settings.items() if value not in (None, "", []) and name != "model"
    }
    return rows + [(name.replace("_", "-"), _setting(value)) for name, value in shown.items()]


def _clip_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The clip that was extended, how it was cut, and what its shots were said to show."""
    shots: list[dict[str, Any]] = record.get("clip_shots") or []
    cut = f": {shots_and_cuts([shot.get('begin', 0) for shot in shots])} remembered" if shots else ""
    rows = [("extends", f"{record['clip']}{cut}")]
    for n, shot in enumerate(shots, start=1):
        if shot.get("caption"):
            rows.append((f"clip shot {n}", str(shot["caption"])))
    return rows


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ("x" if isinstance(value[0], int) else ", ").join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
