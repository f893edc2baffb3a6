"""Scenes: a 3 x 3 grid of coloured shapes, digits or bars, drawn small with jitter and noise.

A scene is a tuple of nine cells in reading order, each a thing or None. A hash of its content decides its
split, so pretraining, training, development and test images are disjoint by construction, whatever the seeds.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vzero.errors import InputError
from vzero.runtime.seeding import derive

COLORS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle", "cross")
CELL_PIXELS = 14
SIDE = 3 * CELL_PIXELS
MAX_BAR = 5
_SCALE = 4  # at which things are drawn before they are reduced

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
SceneKind = Literal["shapes", "odd", "digits", "sequence", "bars"]


def shapes(scene: Scene) -> list[tuple[int, Shape]]:
    """(cell, shape) in reading order."""
    return [(i, thing) for i, thing in enumerate(scene) if isinstance(thing, Shape)]


def digits(scene: Scene) -> list[tuple[int, int]]:
    """(cell, value) in reading order, the question mark left out."""
    found = [(i, thing.value) for i, thing in enumerate(scene) if isinstance(thing, Digit)]
    return [(i, value) for i, value in found if value is not None]


def bars(scene: Scene) -> list[tuple[int, Bar]]:
    """(cell, bar) in reading order."""
    return [(i, thing) for i, thing in enumerate(scene) if isinstance(thing, Bar)]


def split_of(scene: Scene) -> Split:
    """The one split this scene belongs to: 4/10 pretraining, 3/10 training, 1/10 development, 2/10 test."""
    return _SPLIT_OF_TENTH[zlib.crc32(repr(scene).encode()) % 10]


def sample_scene(rng: random.Random, split: Split, kind: SceneKind | None = None) -> tuple[SceneKind, Scene]:
    """A random scene of `split`, of any kind or of the one asked for."""
    while True:
        chosen: SceneKind = kind or rng.choices(tuple(_MAKERS), weights=_WEIGHTS)[0]
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


_MAKERS: dict[SceneKind, Callable[[random.Random, list[Thing | None]], None]] = {
    "shapes": _make_shapes,
    "odd": _make_odd,
    "digits": _make_digits,
    "sequence": _make_sequence,
    "bars": _make_bars,
}
_WEIGHTS = (26, 10, 30, 6, 28)


Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@cache
def _sprite(thing: Thing) -> tuple[Floats, Floats]:
    """(coverage (14, 14) in [0, 1], ink (3,) in [0, 255]), drawn at four times the size and reduced."""
    picture = Image.new("L", (CELL_PIXELS * _SCALE, CELL_PIXELS * _SCALE), 0)
    canvas = ImageDraw.Draw(picture)
    if isinstance(thing, Shape):
        _draw_shape(canvas, thing.form)
    elif isinstance(thing, Bar):
        canvas.rectangle(_box(4, 13 - (2 * thing.height + 1), 10, 13), fill=255)
    else:
        for k, lit in enumerate(_SEGMENTS[thing.value]):
            if lit == "1":
                x, y = 4 + 2 * (k % 3), 2 + 2 * (k // 3)
                canvas.rectangle(_box(x, y, x + 2, y + 2), fill=255)
    ink = _INK if isinstance(thing, Digit) else _RGB[thing.color]
    small = picture.resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255), np.asarray(ink, np.float32)


def _draw_shape(canvas: ImageDraw.ImageDraw, form: str) -> None:
    if form == "circle":
        canvas.ellipse(_box(2.5, 2.5, 11.5, 11.5), fill=255)
    elif form == "square":
        canvas.rectangle(_box(2.5, 2.5, 11.5, 11.5), fill=255)
    elif form == "triangle":
        corners = ((7, 2), (12, 12), (2, 12))
        canvas.polygon([(x * _SCALE, y * _SCALE) for x, y in corners], fill=255)
    else:
        canvas.rectangle(_box(5, 2, 9, 12), fill=255)
        canvas.rectangle(_box(2, 5, 12, 9), fill=255)


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """Pixels of the sprite, in which a rectangle's far edge is part of it."""
    return left * _SCALE, top * _SCALE, right * _SCALE - 1, bottom * _SCALE - 1


def render(scene: Scene, rng: np.random.Generator) -> Pixels:
    """The scene as (42, 42, 3) uint8: each thing shifted by up to a pixel, colours and pixels noisy."""
    canvas = np.full((SIDE, SIDE, 3), 235 + 12 * rng.standard_normal(), np.float32)
    for i, thing in enumerate(scene):
        if thing is None:
            continue
        coverage, ink = _sprite(thing)
        shifted = np.roll(coverage, tuple(rng.integers(-1, 2, 2)), (0, 1))[..., None]
        row, column = divmod(i, 3)
        top, left = row * CELL_PIXELS, column * CELL_PIXELS
        cell = canvas[top : top + CELL_PIXELS, left : left + CELL_PIXELS]
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
    return [None if thing is None else [_NAMES[type(thing)], *vars(thing).values()] for thing in scene]


def scene_from_json(value: list[Any]) -> Scene:
    """Inverse of `scene_to_json`.

    Raises:
        InputError: it is no scene.
    """
    try:
        scene = tuple(None if cell is None else _MADE_OF[cell[0]](*cell[1:]) for cell in value)
    except (LookupError, TypeError):
        scene = ()
    if len(scene) != 9 or not all(thing is None or _is_drawn(thing) for thing in scene):
        raise InputError("A scene of the ground truth is none that the pocket world draws; run it anew.")
    return scene


def _is_drawn(thing: Thing) -> bool:
    if isinstance(thing, Shape):
        return thing.color in COLORS and thing.form in SHAPES
    if isinstance(thing, Bar):
        return thing.color in COLORS and thing.height in range(1, MAX_BAR + 1)
    return thing.value is None or thing.value in range(10)


_NAMES: dict[type, str] = {Shape: "shape", Digit: "digit", Bar: "bar"}
_MADE_OF: dict[str, Callable[..., Thing]] = {"shape": Shape, "digit": Digit, "bar": Bar}
