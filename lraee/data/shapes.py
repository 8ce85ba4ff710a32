"""The embedded "Shapes" pictures: procedural photographs of one object, named by three words.

A composition is (pattern, colour, shape), 5 x 12 x 12 = 720 in all, captioned "striped teal star". 576 compositions
train the embedded CLIP; the other 144 are the zero-shot classes of the benchmark: every word was seen in training, none
of these combinations ever.

A picture depends on (seed, index, composition) alone, so any split size and any number of workers give the same bytes.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 56
"""Side of a picture, px."""
SUPERSAMPLING = 2
CANVAS = SIDE * SUPERSAMPLING
HELD_OUT = 144

SHAPES = (
    "circle", "oval", "semicircle", "crescent", "ring", "heart",
    "triangle", "square", "pentagon", "star", "cross", "arrow",
)  # fmt: skip
PATTERNS = ("plain", "striped", "dotted", "checkered", "framed")
COLOURS = {
    "red": (204, 40, 40), "orange": (238, 130, 30), "yellow": (236, 212, 50), "green": (60, 160, 60),
    "teal": (20, 140, 140), "blue": (50, 90, 210), "purple": (125, 55, 165), "pink": (240, 140, 180),
    "brown": (120, 75, 40), "white": (240, 240, 240), "gray": (135, 135, 135), "black": (28, 28, 28),
}  # fmt: skip

Floats = NDArray[np.floating]
Points = list[tuple[float, float]]


class Composition(NamedTuple):
    """What a picture shows, in the order of its caption: "striped teal star"."""

    pattern: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        return " ".join(self)


@functools.cache
def compositions() -> tuple[list[Composition], list[Composition]]:
    """Return the 576 training compositions and the 144 held-out ones, each in a fixed order.

    The order of SHA-256 digests chooses: no random generator whose stream a library may change takes part.
    """
    every = [Composition(p, c, s) for p in PATTERNS for c in COLOURS for s in SHAPES]
    every.sort(key=lambda composition: hashlib.sha256(composition.name.encode()).digest())
    return every[HELD_OUT:], every[:HELD_OUT]


def render(seed: int, index: int, composition: Composition) -> NDArray[np.uint8]:
    """Draw picture `index` of `seed`: uint8 RGB, shape (SIDE, SIDE, 3)."""
    rng = np.random.default_rng((seed, index))
    background = _background(rng)
    radius = rng.uniform(0.17, 0.36) * CANVAS
    centre = rng.uniform(radius, CANVAS - radius, size=2)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    if composition.shape == "semicircle":
        radius *= 1.15  # half the disc is missing: keep the drawn area comparable

    mask = _mask(composition.shape, centre, radius, angle)
    coverage = np.asarray(mask, dtype=np.float32) / np.float32(255.0)
    u, v = _object_coordinates(centre, radius, angle + rng.uniform(0.0, np.pi))
    tone = _PATTERNS[composition.pattern](rng, u, v, coverage)
    base, second = _tones(rng, composition.colour)
    shade = 1.0 + rng.uniform(0.05, 0.30) * (_halve(u) * np.cos(angle) + _halve(v) * np.sin(angle))

    # The two tones are constant over the object, so their shares can be averaged before they are coloured: the same
    # picture as compositing three channels at full resolution, at a third of the cost.
    share = _halve(coverage)[..., None]
    surface = base * share + (second - base) * _halve(coverage * tone)[..., None]
    return _expose(rng, background * (1.0 - share) + surface * shade.astype(np.float32)[..., None])


def _halve(field: Floats) -> Floats:
    """Average 2 x 2 blocks."""
    rows = field[0::2] + field[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def _background(rng: np.random.Generator) -> Floats:
    """A shaded plane between two muted colours with clutter on it: (SIDE, SIDE, 3), 0..255."""
    first, second = rng.uniform(50.0, 205.0, size=(2, 3)).astype(np.float32)
    direction = rng.uniform(0.0, 2.0 * np.pi)
    axis = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    ramp = np.float32(0.5) + axis * np.float32(0.7 * np.cos(direction))
    ramp = ramp[None, :] + (axis * np.float32(0.7 * np.sin(direction)))[:, None]
    plane = first + (second - first) * ramp[..., None]
    image = Image.fromarray(plane.clip(0, 255).astype(np.uint8)).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 11))):
        x, y = rng.uniform(0, CANVAS, size=2)
        width, height = rng.uniform(0.03, 0.22, size=2) * CANVAS
        fill = tuple(int(level) for level in rng.uniform(20, 235, size=3))
        kind = int(rng.integers(3))
        if kind == 0:
            pen.ellipse((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=fill)
        elif kind == 1:
            corners = rng.uniform(-0.5, 0.5, size=(3, 2)) * (width * 1.6, height * 1.6) + (x, y)
            pen.polygon([tuple(corner) for corner in corners], fill=fill)
        else:
            x2, y2 = rng.uniform(0, CANVAS, size=2)
            pen.line((x, y, x2, y2), fill=fill, width=int(rng.integers(1, 6)))
    return np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)


def _object_coordinates(centre: Floats, radius: float, angle: float) -> tuple[Floats, Floats]:
    """Coordinates (u, v), each (CANVAS, CANVAS), in the object's own frame, in units of its radius."""
    axis = np.arange(CANVAS, dtype=np.float32) + np.float32(0.5)
    x = ((axis - centre[0]) / radius)[None, :]
    y = ((axis - centre[1]) / radius)[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    return (x * cos + y * sin).astype(np.float32), (-x * sin + y * cos).astype(np.float32)


def _mask(shape: str, centre: Floats, radius: float, angle: float) -> Image.Image:
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(mask)
    cos, sin = np.cos(angle), np.sin(angle)
    for outline, fill in _OUTLINES[shape]():
        turned = [
            (centre[0] + radius * (x * cos - y * sin), centre[1] + radius * (x * sin + y * cos)) for x, y in outline
        ]
        pen.polygon(turned, fill=fill)
    return mask


def _ellipse(a: float, b: float, start: float = 0.0, stop: float = 2.0 * np.pi, x: float = 0.0) -> Points:
    angles = np.linspace(start, stop, 33)
    return list(zip(x + a * np.cos(angles), b * np.sin(angles), strict=True))


def _regular(corners: int, radii: tuple[float, ...] = (1.0,)) -> Points:
    angles = 2.0 * np.pi * np.arange(corners * len(radii)) / (corners * len(radii))
    return [(radii[k % len(radii)] * np.cos(a), radii[k % len(radii)] * np.sin(a)) for k, a in enumerate(angles)]


def _heart() -> Points:
    t = np.linspace(0.0, 2.0 * np.pi, 41)
    x = 16.0 * np.sin(t) ** 3
    y = 13.0 * np.cos(t) - 5.0 * np.cos(2 * t) - 2.0 * np.cos(3 * t) - np.cos(4 * t)
    return list(zip(x / 17.0, -y / 17.0, strict=True))


_CROSS = [(-1.0, -0.33), (-0.33, -0.33), (-0.33, -1.0), (0.33, -1.0), (0.33, -0.33), (1.0, -0.33),
          (1.0, 0.33), (0.33, 0.33), (0.33, 1.0), (-0.33, 1.0), (-0.33, 0.33), (-1.0, 0.33)]  # fmt: skip
_ARROW = [(1.0, 0.0), (0.15, 0.75), (0.15, 0.28), (-1.0, 0.28), (-1.0, -0.28), (0.15, -0.28), (0.15, -0.75)]

# Outlines in units of the radius; a part with fill 0 cuts a hole into what was drawn before it.
_OUTLINES: dict[str, Callable[[], list[tuple[Points, int]]]] = {
    "circle": lambda: [(_ellipse(0.9, 0.9), 255)],
    "oval": lambda: [(_ellipse(1.0, 0.58), 255)],
    "semicircle": lambda: [(_ellipse(0.95, 0.95, 0.0, np.pi), 255)],
    "crescent": lambda: [(_ellipse(0.95, 0.95), 255), (_ellipse(0.8, 0.8, x=0.45), 0)],
    "ring": lambda: [(_ellipse(0.95, 0.95), 255), (_ellipse(0.5, 0.5), 0)],
    "heart": lambda: [(_heart(), 255)],
    "triangle": lambda: [(_regular(3), 255)],
    "square": lambda: [(_regular(4), 255)],
    "pentagon": lambda: [(_regular(5), 255)],
    "star": lambda: [(_regular(5, (1.0, 0.42)), 255)],
    "cross": lambda: [(_CROSS, 255)],
    "arrow": lambda: [(_ARROW, 255)],
}


# A pattern is a tone field: 0 = the object's own colour, 1 = its second tone. Periods are in units of the radius.
def _plain(rng: np.random.Generator, u: Floats, v: Floats, coverage: Floats) -> Floats:
    return np.zeros_like(u)


def _striped(rng: np.random.Generator, u: Floats, v: Floats, coverage: Floats) -> Floats:
    period, phase = rng.uniform(0.36, 0.56), rng.uniform()
    return ((u / period + phase) % 1.0 < 0.5).astype(np.float32)


def _dotted(rng: np.random.Generator, u: Floats, v: Floats, coverage: Floats) -> Floats:
    period, phase = rng.uniform(0.42, 0.58), rng.uniform(size=2)
    du = (u / period + phase[0]) % 1.0 - 0.5
    dv = (v / period + phase[1]) % 1.0 - 0.5
    return (du * du + dv * dv < 0.11).astype(np.float32)


def _checkered(rng: np.random.Generator, u: Floats, v: Floats, coverage: Floats) -> Floats:
    period, phase = rng.uniform(0.55, 0.75), rng.uniform(size=2)
    return (((u / period + phase[0]) % 1.0 < 0.5) ^ ((v / period + phase[1]) % 1.0 < 0.5)).astype(np.float32)


def _framed(rng: np.random.Generator, u: Floats, v: Floats, coverage: Floats) -> Floats:
    """A border of the second tone: whatever of the object a shift in any of four directions uncovers."""
    inside = coverage > 0.5
    width = 2 * SUPERSAMPLING
    padded = np.pad(inside, width)
    core = padded[: -2 * width, width:-width] & padded[2 * width :, width:-width]
    core &= padded[width:-width, : -2 * width] & padded[width:-width, 2 * width :]
    return (~core).astype(np.float32)


_PATTERNS: dict[str, Callable[[np.random.Generator, Floats, Floats, Floats], Floats]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "framed": _framed,
}


def _tones(rng: np.random.Generator, colour: str) -> tuple[Floats, Floats]:
    """Return the jittered colour and a lighter or darker second tone, each (3,)."""
    base = np.asarray(COLOURS[colour], dtype=np.float32) + rng.normal(0.0, 10.0, size=3).astype(np.float32)
    lighter = rng.uniform() < 0.5
    if base.mean() > 190:
        lighter = False
    elif base.mean() < 60:
        lighter = True
    target = np.float32(255.0 if lighter else 0.0)
    return base, base + (target - base) * np.float32(rng.uniform(0.35, 0.65))


def _expose(rng: np.random.Generator, scene: Floats) -> NDArray[np.uint8]:
    """Apply random contrast and brightness, then sensor noise."""
    contrast, brightness = rng.uniform(0.55, 1.1), rng.uniform(-20.0, 20.0)
    exposed = 127.5 + (scene - 127.5) * contrast + brightness
    noise = rng.standard_normal(scene.shape, dtype=np.float32) * np.float32(rng.uniform(3.0, 12.0))
    return (exposed + noise).clip(0, 255).round().astype(np.uint8)
