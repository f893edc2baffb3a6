"""Scenes: a 3 x 3 grid of coloured shapes, digits or bars, drawn small with jitter and noise.

A scene is a tuple of nine cells in reading order, each a thing or None. Scenes are dealt to four splits by a
hash of their content, so pretraining, training, development and test images are disjoint by construction,
whatever the seeds.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from vzero.runtime.seeding import derive

COLORS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle", "cross")
CELL_PIXELS = 14
SIDE = 3 * CELL_PIXELS
MAX_BAR = 5

Split = Literal["pretrain", "train", "dev", "test"]
_SPLIT_OF_TENTH: tuple[Split, ...] = ("pretrain",) * 4 + ("train",) * 3 + ("dev",) + ("test",) * 2
_RGB = {"red": (217, 38, 38), "green": (38, 179, 51), "blue": (38, 64, 217), "yellow": (230, 204, 26)}
_INK = (26, 26, 26)
_SEGMENTS = {
    0: "111101101101111",
    1: "010110010010111",
    2: "111001111100111",
    3: "111001111001111",
    4: "101101111001001",
    5: "111100111001111",
    6: "111100111101111",
    7: "111001001010010",
    8: "111101111101111",
    9: "111101111001111",
    None: "111001011000010",
}


@dataclass(frozen=True)
class Shape:
    """A coloured shape."""

    color: str
    form: str


@dataclass(frozen=True)
class Digit:
    """A dark digit 1..9; None is the question mark that ends a sequence."""

    value: int | None


@dataclass(frozen=True)
class Bar:
    """A coloured bar of height 1..5."""

    color: str
    height: int


Thing = Shape | Digit | Bar
Scene = tuple[Thing | None, ...]
Kind = Literal["shapes", "odd", "digits", "sequence", "bars"]


def shapes(scene: Scene) -> list[tuple[int, Shape]]:
    """(cell, shape) in reading order."""
    return [(i, thing) for i, thing in enumerate(scene) if isinstance(thing, Shape)]


def digits(scene: Scene) -> list[tuple[int, int]]:
    """(cell, value) in reading order, the question mark left out."""
    return [
        (i, thing.value)
        for i, thing in enumerate(scene)
        if isinstance(thing, Digit) and thing.value is not None
    ]


def bars(scene: Scene) -> list[tuple[int, Bar]]:
    """(cell, bar) in reading order."""
    return [(i, thing) for i, thing in enumerate(scene) if isinstance(thing, Bar)]


def split_of(scene: Scene) -> Split:
    """The one split this scene belongs to: 4/10 pretraining, 3/10 training, 1/10 development, 2/10 test."""
    return _SPLIT_OF_TENTH[zlib.crc32(repr(scene).encode()) % 10]


def sample_scene(rng: random.Random, split: Split, kind: Kind | None = None) -> tuple[Kind, Scene]:
    """A random scene of `split`, of any kind or of the one asked for."""
    while True:
        chosen: Kind = kind or rng.choices(tuple(_MAKERS), weights=_WEIGHTS)[0]
        cells: list[Thing | None] = [None] * 9
        _MAKERS[chosen](rng, cells)
        scene = tuple(cells)
        if split_of(scene) == split:
            return chosen, scene


def _make_shapes(rng: random.Random, cells: list[Thing | None]) -> None:
    for i in rng.sample(range(9), rng.randint(4, 6)):
        cells[i] = Shape(rng.choice(COLORS), rng.choice(SHAPES))


def _make_odd(rng: random.Random, cells: list[Thing | None]) -> None:
    common, odd = rng.sample(SHAPES, 2)
    for k, i in enumerate(rng.sample(range(9), rng.randint(4, 6))):
        cells[i] = Shape(rng.choice(COLORS), common if k else odd)


def _make_digits(rng: random.Random, cells: list[Thing | None]) -> None:
    for i in rng.sample(range(9), rng.randint(3, 4)):
        cells[i] = Digit(rng.randint(1, 7))


def _make_sequence(rng: random.Random, cells: list[Thing | None]) -> None:
    step, length = rng.choice([(d, k) for d in (-2, -1, 1, 2) for k in (4, 5, 6) if abs(d) * k <= 8])
    first = rng.randint(max(1, 1 - step * length), min(9, 9 - step * length))
    for k in range(length):
        cells[k] = Digit(first + step * k)
    cells[length] = Digit(None)


def _make_bars(rng: random.Random, cells: list[Thing | None]) -> None:
    colors = rng.sample(COLORS, rng.randint(3, 4))
    for color, i in zip(colors, rng.sample(range(9), len(colors)), strict=True):
        cells[i] = Bar(color, rng.randint(1, MAX_BAR))


_MAKERS: dict[Kind, Callable[[random.Random, list[Thing | None]], None]] = {
    "shapes": _make_shapes,
    "odd": _make_odd,
    "digits": _make_digits,
    "sequence": _make_sequence,
    "bars": _make_bars,
}
_WEIGHTS = (26, 10, 30, 6, 28)


@cache
def _sprite(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    """(coverage: (14, 14) float32 in [0, 1], ink: (3,) float32 in [0, 255]), drawn at four times the size and
    reduced."""
    scale = 4
    picture = Image.new("L", (CELL_PIXELS * scale, CELL_PIXELS * scale), 0)
    draw = ImageDraw.Draw(picture)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * scale, top * scale, right * scale - 1, bottom * scale - 1

    ink = _INK
    if isinstance(thing, Shape):
        ink = _RGB[thing.color]
        if thing.form == "circle":
            draw.ellipse(box(2.5, 2.5, 11.5, 11.5), fill=255)
        elif thing.form == "square":
            draw.rectangle(box(2.5, 2.5, 11.5, 11.5), fill=255)
        elif thing.form == "triangle":
            draw.polygon(
                [(7 * scale, 2 * scale), (12 * scale, 12 * scale), (2 * scale, 12 * scale)], fill=255
            )
        else:
            draw.rectangle(box(5, 2, 9, 12), fill=255)
            draw.rectangle(box(2, 5, 12, 9), fill=255)
    elif isinstance(thing, Bar):
        ink = _RGB[thing.color]
        draw.rectangle(box(4, 13 - (2 * thing.height + 1), 10, 13), fill=255)
    else:
        for k, lit in enumerate(_SEGMENTS[thing.value]):
            if lit == "1":
                row, column = divmod(k, 3)
                draw.rectangle(box(4 + 2 * column, 2 + 2 * row, 6 + 2 * column, 4 + 2 * row), fill=255)
    small = picture.resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255, np.asarray(ink, np.float32)


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The scene as (42, 42, 3) uint8: each thing shifted by up to a pixel, colours and pixels noisy."""
    canvas = np.full((SIDE, SIDE, 3), 235 + 12 * rng.standard_normal(), np.float32)
    for i, thing in enumerate(scene):
        if thing is None:
            continue
        coverage, ink = _sprite(thing)
        shifted = np.roll(coverage, tuple(rng.integers(-1, 2, 2)), (0, 1))[..., None]
        row, column = divmod(i, 3)
        cell = canvas[
            row * CELL_PIXELS : (row + 1) * CELL_PIXELS, column * CELL_PIXELS : (column + 1) * CELL_PIXELS
        ]
        cell[:] = cell * (1 - shifted) + shifted * (ink + 14 * rng.standard_normal(3).astype(np.float32))
    canvas += 10 * rng.standard_normal(canvas.shape, np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def draw(seed: int, index: int, split: Split = "train") -> tuple[Image.Image, Scene]:
    """Image number `index` of the world with this seed: (42 x 42 RGB, its scene)."""
    number = derive(seed, "pocket", split, index)
    _, scene = sample_scene(random.Random(number), split)
    return Image.fromarray(render(scene, np.random.default_rng(number))), scene


def scene_to_json(scene: Scene) -> list[Any]:
    """Nine entries: null, ["shape", color, form], ["digit", value] or ["bar", color, height]."""

    def cell(thing: Thing | None) -> list[Any] | None:
        if thing is None:
            return None
        if isinstance(thing, Shape):
            return ["shape", thing.color, thing.form]
        return ["digit", thing.value] if isinstance(thing, Digit) else ["bar", thing.color, thing.height]

    return [cell(thing) for thing in scene]


def scene_from_json(value: list[Any]) -> Scene:
    """Inverse of `scene_to_json`."""
    makers: dict[str, type] = {"shape": Shape, "digit": Digit, "bar": Bar}
    return tuple(None if cell is None else makers[cell[0]](*cell[1:]) for cell in value)
