"""The eight places: one painter each; a seed varies where things stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mocgen.training.world.canvas import Canvas, rgb
from mocgen.training.world.shapes import Field
from mocgen.training.world.specs import PLACES

GROUND = dict(zip(PLACES, (0.88, 0.88, 0.88, 0.88, 0.9, 0.9, 0.91, 0.9), strict=True))
HOVER = {place: {"outer space": 0.14, "under the sea": 0.12}.get(place, 0.02) for place in PLACES}

WHITE = rgb("ffffff")


def _wave(canvas: Canvas, base: float, height: float, cycles: float, phase: float) -> Field:
    """A rolling line (1, W) around `base`."""
    swing = np.sin(2 * np.pi * (cycles * canvas.x + phase)) + 0.4 * np.sin(4.6 * np.pi * cycles * canvas.x)
    return base + height * swing


def _cloud(canvas: Canvas, x: float, y: float, scale: float) -> None:
    for dx, dy, radius in (
        (-0.09, 0.012, 0.045),
        (0.09, 0.012, 0.05),
        (-0.03, -0.02, 0.062),
        (0.04, -0.01, 0.055),
    ):
        canvas.disc(x + dx * scale, y + dy * scale, radius * scale, WHITE)
    canvas.ellipse(x, y + 0.035 * scale, 0.14 * scale, 0.028 * scale, rgb("eaf6ff"))


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.05, 0.05)
    canvas.gradient((rgb("58bdf5"), rgb("bdeaff")), 0, 0.5)
    canvas.glow(0.76 + shift, 0.17, 0.2, rgb("fff6c0"), 0.8)
    canvas.disc(0.76 + shift, 0.17, 0.085, rgb("ffe14d"))
    _cloud(canvas, 0.42 + 2 * shift, 0.2, 0.9)
    canvas.land(np.full_like(canvas.x, 0.5), rgb("1e8fd0"), rgb("35cfd0"), depth=0.2)
    shore = _wave(canvas, 0.68, 0.012, 1.4, rng.uniform())
    canvas.land(shore - 0.025, rgb("eefcff"), rgb("eefcff"))
    canvas.land(shore, rgb("ffe6a6"), rgb("eebf6c"))
    trunk = 0.1 + shift
    canvas.stroke([(trunk - 0.02, 0.76), (trunk, 0.56), (trunk + 0.05, 0.38)], 0.045, rgb("96622f"))
    for angle, length in ((-0.5, 0.13), (0.35, 0.14), (2.75, 0.12), (-2.4, 0.12), (1.1, 0.11)):
        x, y = trunk + 0.05 + length * 0.85 * np.cos(angle), 0.36 + length * 0.7 * np.sin(angle)
        canvas.ellipse(x, y, length, 0.036, rgb("2ba84a"), angle=angle)
    canvas.disc(trunk + 0.05, 0.385, 0.028, rgb("6f4420"))


def _desert(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.05, 0.05)
    canvas.gradient((rgb("f59e4c"), rgb("fbd38a"), rgb("fff0c4")), 0, 0.6)
    canvas.glow(0.26 + shift, 0.2, 0.22, rgb("fffbe0"), 0.8)
    canvas.disc(0.26 + shift, 0.2, 0.1, rgb("fffbe8"))
    canvas.land(_wave(canvas, 0.56, 0.045, 0.9, rng.uniform()), rgb("e2a25a"), rgb("c9803f"))
    cactus, green = 0.84 + shift, rgb("3f8f4f")
    canvas.stroke([(cactus, 0.36), (cactus, 0.75)], 0.085, green)
    canvas.stroke([(cactus, 0.6), (cactus - 0.11, 0.58), (cactus - 0.11, 0.47)], 0.055, green)
    canvas.stroke([(cactus, 0.54), (cactus + 0.1, 0.52), (cactus + 0.1, 0.43)], 0.055, green)
    canvas.stroke([(cactus - 0.015, 0.37), (cactus - 0.015, 0.72)], 0.018, rgb("66b56c"))
    canvas.land(_wave(canvas, 0.73, 0.03, 0.8, rng.uniform()), rgb("f0bd72"), rgb("d9934c"))


def _pine(canvas: Canvas, x: float, foot: float, height: float) -> None:
    canvas.box(x - 0.014, foot - 0.05, x + 0.014, foot + 0.02, rgb("5d4434"))
    for tier in (0.0, 0.28, 0.56):
        top = foot - height + tier * height * 0.75
        bottom, width = top + height * 0.5, height * (0.34 + 0.3 * tier)
        canvas.cone(x, top, bottom, width, rgb("2f6d5e"))
        canvas.cone(x, top, top + height * 0.2, width * 0.4, rgb("f4faff"))


def _snowy_forest(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((rgb("8fb9e3"), rgb("dcebfa")), 0, 0.6)
    canvas.land(_wave(canvas, 0.56, 0.02, 1.1, rng.uniform()), rgb("c4d9ee"), rgb("dfeaf6"))
    for x in (0.1, 0.3, 0.52, 0.72, 0.92):
        _pine(canvas, x + rng.uniform(-0.05, 0.05), 0.63, rng.uniform(0.36, 0.52))
    canvas.land(_wave(canvas, 0.66, 0.02, 0.9, rng.uniform()), rgb("ffffff"), rgb("cfdff2"))
    for x, y in rng.uniform((0, 0), (1, 0.62), size=(14, 2)):
        canvas.disc(x, y, rng.uniform(0.009, 0.016), WHITE)


def _meadow(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.08, 0.08)
    canvas.gradient((rgb("55b4f7"), rgb("c9eeff")), 0, 0.6)
    _cloud(canvas, 0.24 + shift, 0.16, 1.15)
    _cloud(canvas, 0.76 + shift, 0.25, 0.95)
    canvas.land(_wave(canvas, 0.58, 0.04, 1.0, rng.uniform()), rgb("7fce63"), rgb("5cb550"))
    canvas.land(_wave(canvas, 0.69, 0.025, 0.8, rng.uniform()), rgb("5fc24d"), rgb("2f8f37"))
    petals = (rgb("ffffff"), rgb("ffd84d"), rgb("ff8fb8"))
    for i, x in enumerate(np.linspace(0.06, 0.94, 8)):
        x, y = x + rng.uniform(-0.04, 0.04), rng.uniform(0.78, 0.95)
        canvas.disc(x, y, 0.022, petals[i % 3])
        canvas.disc(x, y, 0.009, rgb("e08a1e"))


def _building(canvas: Canvas, left: float, width: float, top: float, rng: np.random.Generator) -> None:
    canvas.box(left, top, left + width, 0.8, rgb("252c5c"))
    for x in np.arange(left + 0.03, left + width - 0.025, 0.055):
        for y in np.arange(top + 0.03, 0.74, 0.075):
            if rng.random() < 0.6:
                canvas.box(x, y, x + 0.026, y + 0.04, rgb("ffd76a"))


def _night_city(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.06, 0.06)
    canvas.gradient((rgb("0b1038"), rgb("2a2a6e"), rgb("6a4a94")), 0, 0.75)
    for x, y in rng.uniform((0, 0), (1, 0.35), size=(12, 2)):
        canvas.disc(x, y, 0.007, WHITE, alpha=0.8)
    canvas.glow(0.7 + shift, 0.16, 0.16, rgb("fff3c8"), 0.4)
    canvas.disc(0.7 + shift, 0.16, 0.085, rgb("fff3c8"))
    for x in np.arange(-0.05, 1, 0.16):
        top = rng.uniform(0.34, 0.52)
        canvas.box(x + shift, top, x + shift + 0.12, 0.8, rgb("3f3b7d"))
    left = -0.1 + shift
    while left < 1:
        width = rng.uniform(0.15, 0.21)
        _building(canvas, left, width, rng.uniform(0.42, 0.62), rng)
        left += width + 0.02
    canvas.land(np.full_like(canvas.x, 0.78), rgb("4a4a63"), rgb("2b2b40"), depth=0.22)
    canvas.box(0, 0.775, 1, 0.79, rgb("8a88a8"))
    for x in np.arange(-0.1, 1, 0.25):
        canvas.box(x + shift, 0.94, x + shift + 0.13, 0.96, rgb("e8d9a0"))


def _outer_space(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.06, 0.06)
    canvas.gradient((rgb("0a0a26"), rgb("1a1147"), rgb("0c0b2a")))
    canvas.glow(0.7 - shift, 0.75, 0.35, rgb("7a2f9a"), 0.55)
    canvas.glow(0.2 + shift, 0.45, 0.3, rgb("2148a8"), 0.5)
    for x, y in rng.uniform(0, 1, size=(26, 2)):
        canvas.disc(x, y, rng.uniform(0.005, 0.01), WHITE, alpha=0.9)
    for x, y in rng.uniform((0.1, 0.1), (0.9, 0.9), size=(3, 2)):
        canvas.ellipse(x, y, 0.032, 0.007, rgb("fff7c9"))
        canvas.ellipse(x, y, 0.007, 0.032, rgb("fff7c9"))
    x, y = 0.2 + shift, 0.2
    canvas.disc(x, y, 0.115, rgb("e8935a"))
    canvas.ellipse(x, y - 0.035, 0.095, 0.016, rgb("f7bd83"))
    canvas.ellipse(x, y + 0.045, 0.09, 0.018, rgb("c96f45"))
    canvas.ellipse(x, y + 0.012, 0.19, 0.02, rgb("ffe3b0"), angle=-0.3)
    canvas.disc(0.86 + shift, 0.86, 0.06, rgb("b9c4dc"))
    canvas.disc(0.845 + shift, 0.845, 0.017, rgb("8f9bb8"))
    canvas.disc(0.88 + shift, 0.875, 0.012, rgb("8f9bb8"))


def _under_the_sea(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.05, 0.05)
    canvas.gradient((rgb("2fb5e8"), rgb("1273c4"), rgb("0a3f8f")), 0, 0.9)
    for x, width in ((0.16, 0.035), (0.42, 0.05), (0.72, 0.04)):
        beam = np.abs(canvas.x - x - shift + 0.3 * canvas.y) - width * (1 + canvas.y)
        canvas.fill(np.maximum(beam, canvas.y - 0.75), rgb("bff0ff"), alpha=0.16, soft=0.05)
    for x, height in ((0.07, 0.42), (0.15, 0.3), (0.86, 0.38), (0.94, 0.26)):
        ys = np.linspace(0.9, 0.9 - height, 7)
        points = [(x + shift + 0.022 * np.sin(18 * y + 9 * x), float(y)) for y in ys]
        canvas.stroke(points, 0.036, rgb("1f9d63"))
    canvas.land(_wave(canvas, 0.82, 0.015, 1.2, rng.uniform()), rgb("f3dc9c"), rgb("c9a562"), depth=0.2)
    for dx, top in ((-0.05, 0.77), (0.0, 0.72), (0.05, 0.76)):
        canvas.stroke([(0.7 + shift, 0.86), (0.7 + shift + dx, top)], 0.034, rgb("ff7d6b"))
    for x, y in rng.uniform((0.1, 0.08), (0.9, 0.6), size=(6, 2)):
        radius = rng.uniform(0.014, 0.026)
        canvas.disc(x, y, radius, rgb("c8f1ff"), alpha=0.75)
        canvas.disc(x, y, radius * 0.6, rgb("2f9ed8"), alpha=0.8)


def _sunset_hills(canvas: Canvas, rng: np.random.Generator) -> None:
    shift = rng.uniform(-0.1, 0.1)
    canvas.gradient((rgb("5b2a86"), rgb("c94f7c"), rgb("ff9a56"), rgb("ffd27a")), 0, 0.66)
    canvas.glow(0.5 + shift, 0.5, 0.32, rgb("fff0a8"), 0.7)
    canvas.disc(0.5 + shift, 0.48, 0.16, rgb("fff1a0"))
    for y, x in ((0.14, 0.22), (0.24, 0.8)):
        canvas.ellipse(x + shift, y, 0.15, 0.018, rgb("f08a8f"))
        canvas.ellipse(x + shift + 0.05, y + 0.03, 0.1, 0.013, rgb("f6a48c"))
    canvas.land(_wave(canvas, 0.57, 0.045, 1.0, rng.uniform()), rgb("9a4a78"), rgb("7d3a6c"))
    canvas.land(_wave(canvas, 0.68, 0.035, 0.9, rng.uniform()), rgb("6b2f63"), rgb("57275a"))
    canvas.land(_wave(canvas, 0.8, 0.02, 0.8, rng.uniform()), rgb("472150"), rgb("2c1538"))


PAINTERS = dict(
    zip(
        PLACES,
        (_beach, _desert, _snowy_forest, _meadow, _night_city, _outer_space, _under_the_sea, _sunset_hills),
        strict=True,
    )
)


def paint(place: str, backdrop: int, size: int) -> NDArray[np.float32]:
    """The background of `place` in its variant `backdrop`: (size, size, 3), 0..1; half are mirrored."""
    rng = np.random.default_rng(backdrop)
    mirrored = rng.random() < 0.5
    canvas = Canvas(size)
    PAINTERS[place](canvas, rng)
    return canvas.image[:, ::-1] if mirrored else canvas.image
