"""A small scene whose routing is recorded with the real operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mocgen.routing import RoutingRecorder, RoutingReport
from mocgen_kernels import ContextLayout, Kind, route

LAYERS, HEADS, SIZE = 2, 2, 8


def scene_layout(shots: int, groups: int = 2) -> ContextLayout:
    """[prompt 2][caption 2][groups of 3 tokens] per shot."""
    lengths, kinds, owners = [2], [Kind.TEXT], [-1]
    for shot in range(shots):
        lengths += [2] + [3] * groups
        kinds += [Kind.TEXT] + [Kind.VIDEO] * groups
        owners += [shot] * (1 + groups)
    return ContextLayout(lengths=lengths, kinds=kinds, shots=owners)


def record_scene(shots: int, *, causal: bool = True, groups: int = 2, seed: int = 0) -> RoutingReport:
    """Shot by shot against the memory of earlier ones; without causal routing all shots at once."""
    generator = torch.Generator().manual_seed(seed)
    recorder = RoutingRecorder(layers=LAYERS, heads=HEADS)
    total = scene_layout(shots, groups).length
    keys = torch.randn(LAYERS, 1, total, HEADS, SIZE, generator=generator)
    done = 0
    for shot in range(shots):
        layout = scene_layout(shot + 1 if causal else shots, groups)
        for layer in range(LAYERS):
            k = keys[layer, :, : layout.length]
            q = torch.randn(1, layout.length - done, HEADS, SIZE, generator=generator)
            recorder.record(layer, q, k, layout, route(q, k, layout, top_k=2, causal=causal))
        if not causal:
            break
        done = layout.length
    frames: list[tuple[int, int] | None] = [None]
    for group in range(shots * groups):
        if group % groups == 0:
            frames.append(None)
        frames.append((group * 4, group * 4 + 4))
    return recorder.report(frames=frames)


@pytest.fixture
def recorded() -> Callable[..., RoutingReport]:
    return record_scene


@pytest.fixture
def layout_of() -> Callable[..., ContextLayout]:
    return scene_layout
