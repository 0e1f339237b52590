"""Turning frames the way players show them, without leaving their pixel format."""

from __future__ import annotations

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

_ANY = Fraction(1, 1000)  # frames are stamped afresh afterwards


class Uprighter:
    """Turns frames by counter-clockwise quarter turns; their format must treat both directions alike."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame turned; its time stamp is not kept."""
        if not self._turns:
            return frame
        if self._graph is None:
            self._graph = _graph(frame, self._turns)
        frame.pts, frame.time_base = None, _ANY
        self._graph.vpush(frame)
        return self._graph.vpull()


def _graph(frame: VideoFrame, turns: int) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY)
    if turns == 2:
        turned = [graph.add("hflip"), graph.add("vflip")]
    else:
        turned = [graph.add("transpose", "cclock" if turns == 1 else "clock")]
    graph.link_nodes(source, *turned, graph.add("buffersink"))
    graph.configure()
    return graph
