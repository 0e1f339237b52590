"""Pictures of one run's routing, drawn with matplotlib's Agg backend and no global state."""

from __future__ import annotations

from pathlib import Path

from mocgen.routing.report import RoutingReport
from mocgen.routing.statistics import RoutingStatistics

from .canvas import Pixels
from .heatmap import draw_heatmap, draw_mass
from .layers import draw_layers
from .memory import draw_memory
from .rulers import Thumbnails
from .shares import draw_shares
from .shots import draw_shots, shot_pictures

CAPTIONS = (
    (
        "memory.png",
        "What the scene remembers",
        "Shots from left to right. Arches lead to the shots that a shot took most of its routed attention "
        "from; the bars below say how much each shot is looked back at.",
    ),
    (
        "shots.png",
        "Shot by shot",
        "Each row is a shot; the numbers say in percent from which shots its routed attention came.",
    ),
    (
        "heatmap.png",
        "Context by context",
        "Each row is a context that asks, each column one that answers. Dark: most queries of the row chose "
        "that context. Grey contexts are always attended and cost no routing budget.",
    ),
    (
        "mass.png",
        "Attention mass",
        "How much softmax probability each context really received, anchors included.",
    ),
    (
        "shares.png",
        "Own shot and memory",
        "Attention mass on captions, on the own shot and on other shots, for each shot (left) and for each "
        "layer (right, over the shots that have something to remember).",
    ),
    ("layers.png", "Layers and heads", "The context heatmap of every layer and head, on one colour scale."),
)

__all__ = ["CAPTIONS", "Pixels", "Thumbnails", "draw_all", "shot_pictures"]


def draw_all(report: RoutingReport, numbers: RoutingStatistics, thumbnails: Thumbnails, folder: Path) -> None:
    """Draw all pictures that CAPTIONS names into a folder."""
    draw_memory(report, thumbnails, folder / "memory.png")
    draw_shots(report, thumbnails, folder / "shots.png")
    draw_heatmap(report, thumbnails, folder / "heatmap.png")
    draw_mass(report, thumbnails, folder / "mass.png")
    draw_shares(numbers, folder / "shares.png")
    draw_layers(report, folder / "layers.png")
