"""The report as one self-contained HTML page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from matplotlib.image import imsave

from .page_style import STYLE
from .pictures import CAPTIONS, Pixels, Thumbnails, shot_pictures
from .pictures.shares import PARTS, parts_of
from .report import RoutingReport
from .statistics import HeadStatistics, RoutingStatistics, Share, ShotStatistics
from .wording import percent


def render(
    report: RoutingReport,
    numbers: RoutingStatistics,
    sentences: Sequence[str],
    *,
    thumbnails: Thumbnails,
    captions: Sequence[str],
    settings: Mapping[str, object],
    folder: Path,
    video: str | None,
) -> str:
    """The page's text; pictures are read from `folder` and embedded, a video is linked by its file name."""
    figures = "\n".join(_figure(folder / name, title, words) for name, title, words in CAPTIONS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Routing of {report.shots} shots</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>What attention remembered</h1>
<p class="lead">{report.shots} shots in {len(report.contexts)} contexts,
seen by {report.layers} layers × {report.heads} heads of Mixture of Contexts.</p>
</header>
<main>
<section class="tiles">{_tiles(report, numbers)}</section>
{_video(video)}
<section><h2>In plain words</h2>
<ul class="words">{"".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)}</ul></section>
{figures}
<section><h2>Shots</h2>{_shot_table(numbers, shot_pictures(report, thumbnails), captions)}</section>
<section><h2>Layers and heads</h2>
<details><summary>Every layer, head and shot</summary>{_head_table(numbers)}</details></section>
<section><h2>Settings</h2>{_settings(settings)}</section>
<section class="notes"><h2>How to read the numbers</h2>
<p><b>Density</b>: attended (query, key) pairs as a share of all pairs with the tokens that the scene held
when the shot was made. <b>Entropy</b>: how widely the routed choices spread over the contexts that could
be chosen; 0: always the same one, 1: all equally often. <b>Distance</b>: how many shots back the routed
attention lies, on average. <b>Loops</b>: pairs of shots that route to each other in one head. The raw
tensors are in <code>routing.safetensors</code>, the numbers in <code>routing.json</code>.</p></section>
</main>
</body>
</html>
"""


def _tiles(report: RoutingReport, numbers: RoutingStatistics) -> str:
    routing = [shot for shot in numbers.shots if shot.mean_distance is not None]
    past = [shot.share.routed_past + shot.share.future for shot in routing]
    distance = [shot.mean_distance for shot in routing if shot.mean_distance is not None]
    tiles = (
        (str(report.shots), "shots"),
        (percent(numbers.density), "density"),
        (percent(sum(past) / len(past)) if past else "–", "of attention to other shots"),
        (f"{sum(distance) / len(distance):.1f}" if distance else "–", "shots back, on average"),
        (str(numbers.loops), "routing loops"),
    )
    return "".join(f"<div><strong>{value}</strong><span>{name}</span></div>" for value, name in tiles)


def _video(name: str | None) -> str:
    if name is None:
        return ""
    return f'<video controls loop muted playsinline src="{escape(quote(name))}"></video>'


def _figure(path: Path, title: str, words: str) -> str:
    data = b64encode(path.read_bytes()).decode("ascii")
    return (
        f"<section><h2>{escape(title)}</h2><p>{escape(words)}</p>"
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(title)}"></figure></section>'
    )


def _shot_table(numbers: RoutingStatistics, pictures: Thumbnails, captions: Sequence[str]) -> str:
    heads = ("", "shot", "attention", "looked at most", "density", "entropy", "distance")
    rows = "".join(_shot_row(shot, pictures.get(shot.shot), captions) for shot in numbers.shots)
    key = "".join(f'<span><i style="background:{color}"></i>{name}</span>' for name, color in PARTS)
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<p class="key">{key}</p><div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _shot_row(shot: ShotStatistics, picture: Pixels | None, captions: Sequence[str]) -> str:
    caption = escape(captions[shot.shot]) if shot.shot < len(captions) else ""
    best = sorted(range(len(shot.routed_from)), key=lambda source: -shot.routed_from[source])[:2]
    sources = "<br>".join(
        f"shot {source + 1} <small>{percent(shot.routed_from[source])}</small>"
        for source in best
        if shot.routed_from[source] > 0
    )
    cells = (
        _thumbnail(picture),
        f"<b>{shot.shot + 1}</b> <span>{caption}</span>",
        _stack(shot.share),
        sources or "–",
        percent(shot.density),
        _decimal(shot.entropy_normalised),
        _decimal(shot.mean_distance),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _stack(share: Share) -> str:
    parts = zip(parts_of(share), PARTS, strict=True)
    bars = "".join(
        f'<i style="width:{part:.1%};background:{color}" title="{name}: {percent(part)}"></i>'
        for part, (name, color) in parts
        if part > 0
    )
    return f'<div class="stack">{bars}</div>'


def _head_table(numbers: RoutingStatistics) -> str:
    heads = ("layer", "head", "shot", "density", "entropy, nats", "entropy", "distance", "captions")
    head = "".join(f"<th>{name}</th>" for name in (*heads, "own shot", "earlier shots", "later shots"))
    rows = "".join(_head_row(entry) for entry in numbers.heads)
    return f'<div class="scroll tall"><table class="dense"><tr>{head}</tr>{rows}</table></div>'


def _head_row(entry: HeadStatistics) -> str:
    cells = (
        str(entry.layer),
        str(entry.head),
        str(entry.shot + 1),
        percent(entry.density),
        _decimal(entry.entropy),
        _decimal(entry.entropy_normalised),
        _decimal(entry.mean_distance),
        *(percent(part) for part in parts_of(entry.share)),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _settings(settings: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in settings.items()
        if value is not None and value != ""
    )
    return f'<table class="settings">{rows}</table>'


def _thumbnail(picture: Pixels | None) -> str:
    if picture is None:
        return ""
    stream = BytesIO()
    imsave(stream, picture, format="png")
    return f'<img src="data:image/png;base64,{b64encode(stream.getvalue()).decode("ascii")}" alt="">'


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
