"""Question families: what can be asked about a scene, in which words, and what the true answer is.

A family is a sentence with typed slots and a function from (scene, slot values) to the answer, None where the
question has none (an empty cell, a colour no bar has, no unique odd one). Families belong to one of three
suites and are easy or hard by how many steps a careful answer takes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vzero.pocket.world import COLORS, SHAPES, Bar, Digit, Kind, Scene, Shape, bars, digits, shapes

CELLS = tuple(f"c{i}" for i in range(1, 10))
MAX_NUMBER = 30
NUMBERS = tuple(str(i) for i in range(MAX_NUMBER + 1))
LETTERS = ("A", "B", "C", "D")
_SLOT_WORDS = {"{cell}": CELLS, "{color}": COLORS, "{shape}": SHAPES, "{number}": NUMBERS}

Arguments = tuple[str, ...]
Answer = Callable[[Scene, Arguments], str | None]


@dataclass(frozen=True)
class Family:
    """One kind of question.

    Attributes:
        name: e.g. "bar_sum".
        suite: "math", "logic" or "vision".
        hard: more than one reading has to be combined.
        kinds: scenes it is asked about.
        template: its words; slots are {cell}, {color}, {shape}, {number}.
        answer: the truth, or None where the question has no answer in this scene.
    """

    name: str
    suite: Literal["math", "logic", "vision"]
    hard: bool
    kinds: tuple[Kind, ...]
    template: str
    answer: Answer

    @property
    def slots(self) -> tuple[str, ...]:
        """Types of the slots in order."""
        return tuple(word for word in self.template.split() if word in _SLOT_WORDS)

    def text(self, arguments: Arguments) -> str:
        """The question's words, options not included."""
        values = iter(arguments)
        return " ".join(next(values) if word in _SLOT_WORDS else word for word in self.template.split())

    def match(self, words: list[str]) -> Arguments | None:
        """Slot values where `words` are this family's question, else None."""
        pattern = self.template.split()
        if len(words) != len(pattern):
            return None
        found = []
        for word, expected in zip(words, pattern, strict=True):
            if expected in _SLOT_WORDS:
                if word not in _SLOT_WORDS[expected]:
                    return None
                found.append(word)
            elif word != expected:
                return None
        return tuple(found)


def _at(scene: Scene, cell: str, attribute: str) -> str | None:
    value = getattr(scene[CELLS.index(cell)], attribute, None)
    return None if value is None else str(value)


def _heights(scene: Scene) -> dict[str, int]:
    return {bar.color: bar.height for _, bar in bars(scene)}


def _number(value: int | None) -> str | None:
    return str(value) if value is not None and 0 <= value <= MAX_NUMBER else None


def _two_cells(scene: Scene, arguments: Arguments, combine: Callable[[int, int], int]) -> str | None:
    here = dict(digits(scene))
    one, other = (CELLS.index(cell) for cell in arguments)
    return (
        _number(combine(here[one], here[other])) if one != other and one in here and other in here else None
    )


def _two_bars(scene: Scene, arguments: Arguments, combine: Callable[[int, int], int]) -> str | None:
    heights = _heights(scene)
    one, other = arguments
    return (
        _number(combine(heights[one], heights[other]))
        if one != other and one in heights and other in heights
        else None
    )


def _bar_mix(scene: Scene, arguments: Arguments) -> str | None:
    heights = _heights(scene)
    if len(set(arguments)) < 3 or any(color not in heights for color in arguments):
        return None
    return _number(heights[arguments[0]] + heights[arguments[1]] - heights[arguments[2]])


def _count(scene: Scene, attribute: str, value: str) -> str | None:
    here = shapes(scene)
    return _number(sum(getattr(shape, attribute) == value for _, shape in here)) if here else None


def _odd(scene: Scene, _: Arguments) -> str | None:
    forms = [shape.form for _, shape in shapes(scene)]
    single = [form for form in SHAPES if forms.count(form) == 1]
    return single[0] if len(single) == 1 and len(set(forms)) == 2 else None


def _next_digit(scene: Scene, _: Arguments) -> str | None:
    values = [value for _, value in digits(scene)]
    steps = {b - a for a, b in pairwise(values)}
    return _number(2 * values[-1] - values[-2]) if len(values) >= 3 and len(steps) == 1 else None


def _ranked_bar(scene: Scene, rank: int) -> str | None:
    """The colour at `rank` from the tallest, where nothing ties with it."""
    order = sorted(((bar.height, bar.color) for _, bar in bars(scene)), reverse=True)
    if len(order) <= rank or [height for height, _ in order].count(order[rank][0]) > 1:
        return None
    return order[rank][1]


def _above(scene: Scene, arguments: Arguments) -> str | None:
    values = [value for _, value in digits(scene)]
    return _number(sum(value > int(arguments[0]) for value in values)) if values else None


def _over_digits(combine: Callable[[list[int]], int]) -> Answer:
    def answer(scene: Scene, _: Arguments) -> str | None:
        values = [value for _, value in digits(scene)]
        return _number(combine(values)) if values else None

    return answer


_SHAPE_KINDS: tuple[Kind, ...] = ("shapes", "odd")
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "color_at",
            "vision",
            False,
            _SHAPE_KINDS,
            "what color is at {cell} ?",
            lambda s, a: _at(s, a[0], "color"),
        ),
        Family(
            "shape_at",
            "vision",
            False,
            _SHAPE_KINDS,
            "what shape is at {cell} ?",
            lambda s, a: _at(s, a[0], "form"),
        ),
        Family(
            "digit_at",
            "vision",
            False,
            ("digits",),
            "what digit is at {cell} ?",
            lambda s, a: _at(s, a[0], "value"),
        ),
        Family(
            "bar_height",
            "vision",
            False,
            ("bars",),
            "how tall is {color} ?",
            lambda s, a: _number(_heights(s).get(a[0])),
        ),
        Family(
            "count_color",
            "vision",
            True,
            _SHAPE_KINDS,
            "how many {color} ?",
            lambda s, a: _count(s, "color", a[0]),
        ),
        Family(
            "count_shape",
            "vision",
            True,
            ("shapes",),
            "how many {shape} ?",
            lambda s, a: _count(s, "form", a[0]),
        ),
        Family("largest", "math", False, ("digits",), "what is the largest ?", _over_digits(max)),
        Family("sum", "math", True, ("digits",), "what is the sum ?", _over_digits(sum)),
        Family(
            "cell_sum",
            "math",
            True,
            ("digits",),
            "what is {cell} + {cell} ?",
            lambda s, a: _two_cells(s, a, lambda x, y: x + y),
        ),
        Family(
            "cell_gap",
            "math",
            True,
            ("digits",),
            "what is the gap {cell} {cell} ?",
            lambda s, a: _two_cells(s, a, lambda x, y: abs(x - y)),
        ),
        Family(
            "bar_gap",
            "math",
            True,
            ("bars",),
            "what is the gap {color} {color} ?",
            lambda s, a: _two_bars(s, a, lambda x, y: abs(x - y)),
        ),
        Family(
            "bar_sum",
            "math",
            True,
            ("bars",),
            "how tall is {color} + {color} ?",
            lambda s, a: _two_bars(s, a, lambda x, y: x + y),
        ),
        Family("bar_mix", "math", True, ("bars",), "how tall is {color} + {color} minus {color} ?", _bar_mix),
        Family("odd", "logic", False, ("odd",), "which shape is odd ?", _odd),
        Family("next_digit", "logic", False, ("sequence",), "what digit comes next ?", _next_digit),
        Family(
            "tallest", "logic", False, ("bars",), "which bar is tallest ?", lambda s, _: _ranked_bar(s, 0)
        ),
        Family("second", "logic", True, ("bars",), "which bar is second ?", lambda s, _: _ranked_bar(s, 1)),
        Family("above", "logic", True, ("digits",), "how many above {number} ?", _above),
    )
}


@dataclass(frozen=True)
class Asked:
    """A question that has an answer: its family, its slot values, four distinct options and the right one
    among them."""

    family: Family
    arguments: Arguments
    options: tuple[str, str, str, str]
    answer: str

    @property
    def text(self) -> str:
        """Question and options as one line of words."""
        return f"{self.family.text(self.arguments)} {option_text(self.options)}"

    @property
    def gold(self) -> str:
        """Letter of the right option."""
        return LETTERS[self.options.index(self.answer)]


def option_text(options: tuple[str, ...]) -> str:
    """``A) x B) y C) z D) w``."""
    return " ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def _arguments(rng: random.Random, family: Family, scene: Scene) -> Arguments:
    """Slot values that the scene can answer, mostly: only things that are there are asked about."""
    if family.name == "above":
        return (str(rng.randint(1, 6)),)
    if "{cell}" in family.slots:
        here = [CELLS[i] for i, thing in enumerate(scene) if thing is not None]
        return tuple(rng.sample(here, len(family.slots)))
    if family.name == "count_shape":
        return (rng.choice(SHAPES),)
    if family.name == "count_color":
        return (rng.choice(COLORS),)
    return tuple(rng.sample([bar.color for _, bar in bars(scene)], len(family.slots)))


def make_options(rng: random.Random, answer: str) -> tuple[str, str, str, str]:
    """Four distinct options of the answer's type in random order; numbers are near misses."""
    if answer in COLORS or answer in SHAPES:
        options = list(COLORS if answer in COLORS else SHAPES)
    else:
        value = int(answer)
        pool = [x for x in range(max(0, value - 3), min(MAX_NUMBER, value + 3) + 1) if x != value]
        options = [answer]
        while len(options) < 4:
            near = str(rng.choices(pool, [1 / abs(x - value) for x in pool])[0])
            if near not in options:
                options.append(near)
    rng.shuffle(options)
    return (options[0], options[1], options[2], options[3])


def ask(rng: random.Random, family: Family, scene: Scene, attempts: int = 20) -> Asked | None:
    """A question of `family` about `scene` that has an answer, or None after `attempts` draws without one."""
    for _ in range(attempts):
        arguments = _arguments(rng, family, scene) if family.slots else ()
        answer = family.answer(scene, arguments)
        if answer is None or (family.name.startswith("count") and answer == "0" and rng.random() < 0.7):
            continue
        return Asked(family, arguments, make_options(rng, answer), answer)
    return None


_THINGS: tuple[tuple[type, frozenset[Kind]], ...] = (
    (Shape, frozenset({"shapes", "odd"})),
    (Digit, frozenset({"digits", "sequence"})),
    (Bar, frozenset({"bars"})),
)


def one_about(rng: random.Random, scene: Scene) -> Asked | None:
    """A question about `scene`, each family that fits what it shows equally likely; None where none has an
    answer."""
    shown = next(
        (kinds for thing, kinds in _THINGS if any(isinstance(one, thing) for one in scene)), frozenset()
    )
    families = [family for family in FAMILIES.values() if shown & set(family.kinds)]
    rng.shuffle(families)
    return next((asked for family in families if (asked := ask(rng, family, scene)) is not None), None)
