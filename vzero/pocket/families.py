"""Question families: what can be asked about a scene, in which words, and what the true answer is.

A family is a sentence with typed slots and a function from (scene, slot values) to the answer, None where the
question has none (an empty cell, a colour no bar has, no unique odd one).
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vzero.parsing import OPTIONS
from vzero.pocket.world import COLORS, SHAPES, Bar, Digit, Scene, SceneKind, Shape, bars, digits, shapes

CELLS = tuple(f"c{i}" for i in range(1, 10))
MAX_NUMBER = 30
NUMBERS = tuple(str(i) for i in range(MAX_NUMBER + 1))
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
    kinds: tuple[SceneKind, ...]
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
        pairs = list(zip(words, pattern, strict=True))
        if any(word not in _SLOT_WORDS.get(expected, (expected,)) for word, expected in pairs):
            return None
        return tuple(word for word, expected in pairs if expected in _SLOT_WORDS)


def _number(value: int | None) -> str | None:
    return str(value) if value is not None and 0 <= value <= MAX_NUMBER else None


def _heights(scene: Scene) -> dict[str, int]:
    return {bar.color: bar.height for _, bar in bars(scene)}


def _values(scene: Scene) -> list[int]:
    return [value for _, value in digits(scene)]


def _at_cell(attribute: str) -> Answer:
    def answer(scene: Scene, arguments: Arguments) -> str | None:
        value = getattr(scene[CELLS.index(arguments[0])], attribute, None)
        return None if value is None else str(value)

    return answer


def _of_two(named: Callable[[Scene], dict[str, int]], combine: Callable[[int, int], int]) -> Answer:
    """Of two different things that the scene has, by their names."""

    def answer(scene: Scene, arguments: Arguments) -> str | None:
        here, (one, other) = named(scene), arguments
        return (
            _number(combine(here[one], here[other])) if one != other and {one, other} <= set(here) else None
        )

    return answer


def _cells(scene: Scene) -> dict[str, int]:
    return {CELLS[cell]: value for cell, value in digits(scene)}


def _gap(one: int, other: int) -> int:
    return abs(one - other)


def _bar_mix(scene: Scene, arguments: Arguments) -> str | None:
    heights = _heights(scene)
    if len(set(arguments)) < 3 or any(color not in heights for color in arguments):
        return None
    one, other, less = (heights[color] for color in arguments)
    return _number(one + other - less)


def _count(attribute: str) -> Answer:
    def answer(scene: Scene, arguments: Arguments) -> str | None:
        here = shapes(scene)
        return _number(sum(getattr(shape, attribute) == arguments[0] for _, shape in here)) if here else None

    return answer


def _odd(scene: Scene, _: Arguments) -> str | None:
    forms = [shape.form for _, shape in shapes(scene)]
    single = [form for form in SHAPES if forms.count(form) == 1]
    return single[0] if len(single) == 1 and len(set(forms)) == 2 else None


def _next_digit(scene: Scene, _: Arguments) -> str | None:
    values = _values(scene)
    steps = {b - a for a, b in pairwise(values)}
    return _number(2 * values[-1] - values[-2]) if len(values) >= 3 and len(steps) == 1 else None


def _ranked_bar(rank: int) -> Answer:
    """The colour at `rank` from the tallest, where nothing ties with it."""

    def answer(scene: Scene, _: Arguments) -> str | None:
        order = sorted(((height, color) for color, height in _heights(scene).items()), reverse=True)
        if len(order) <= rank or [height for height, _ in order].count(order[rank][0]) > 1:
            return None
        return order[rank][1]

    return answer


def _above(scene: Scene, arguments: Arguments) -> str | None:
    values = _values(scene)
    return _number(sum(value > int(arguments[0]) for value in values)) if values else None


def _of_all(combine: Callable[[list[int]], int]) -> Answer:
    return lambda scene, _: _number(combine(_values(scene))) if _values(scene) else None


_SHAPED: tuple[SceneKind, ...] = ("shapes", "odd")
_ALL = (
    Family("color_at", "vision", False, _SHAPED, "what color is at {cell} ?", _at_cell("color")),
    Family("shape_at", "vision", False, _SHAPED, "what shape is at {cell} ?", _at_cell("form")),
    Family("digit_at", "vision", False, ("digits",), "what digit is at {cell} ?", _at_cell("value")),
    Family(
        "bar_height",
        "vision",
        False,
        ("bars",),
        "how tall is {color} ?",
        lambda scene, arguments: _number(_heights(scene).get(arguments[0])),
    ),
    Family("count_color", "vision", True, _SHAPED, "how many {color} ?", _count("color")),
    Family("count_shape", "vision", True, ("shapes",), "how many {shape} ?", _count("form")),
    Family("largest", "math", False, ("digits",), "what is the largest ?", _of_all(max)),
    Family("sum", "math", True, ("digits",), "what is the sum ?", _of_all(sum)),
    Family("cell_sum", "math", True, ("digits",), "what is {cell} + {cell} ?", _of_two(_cells, operator.add)),
    Family("cell_gap", "math", True, ("digits",), "what is the gap {cell} {cell} ?", _of_two(_cells, _gap)),
    Family("bar_gap", "math", True, ("bars",), "what is the gap {color} {color} ?", _of_two(_heights, _gap)),
    Family(
        "bar_sum", "math", True, ("bars",), "how tall is {color} + {color} ?", _of_two(_heights, operator.add)
    ),
    Family("bar_mix", "math", True, ("bars",), "how tall is {color} + {color} minus {color} ?", _bar_mix),
    Family("odd", "logic", False, ("odd",), "which shape is odd ?", _odd),
    Family("next_digit", "logic", False, ("sequence",), "what digit comes next ?", _next_digit),
    Family("tallest", "logic", False, ("bars",), "which bar is tallest ?", _ranked_bar(0)),
    Family("second", "logic", True, ("bars",), "which bar is second ?", _ranked_bar(1)),
    Family("above", "logic", True, ("digits",), "how many above {number} ?", _above),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}


@dataclass(frozen=True)
class PocketQuestion:
    """A question that has an answer.

    Attributes:
        arguments: its slot values.
        options: four distinct ones.
        answer: the right one among them.
    """

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
        return OPTIONS[self.options.index(self.answer)]


def option_text(options: tuple[str, ...]) -> str:
    """``A) x B) y C) z D) w``."""
    return " ".join(f"{letter}) {option}" for letter, option in zip(OPTIONS, options, strict=False))


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


def ask(rng: random.Random, family: Family, scene: Scene, attempts: int = 20) -> PocketQuestion | None:
    """A question of `family` about `scene` that has an answer, or None after `attempts` draws without one."""
    for _ in range(attempts):
        arguments = _arguments(rng, family, scene) if family.slots else ()
        answer = family.answer(scene, arguments)
        if answer is None or (family.name.startswith("count") and answer == "0" and rng.random() < 0.7):
            continue
        return PocketQuestion(family, arguments, make_options(rng, answer), answer)
    return None


def ask_any(rng: random.Random, scene: Scene) -> PocketQuestion | None:
    """A question about `scene` that has an answer, of any family that fits what it shows, or None."""
    shown = next(
        (kinds for thing, kinds in _SHOWN.items() if any(isinstance(one, thing) for one in scene)),
        frozenset(),
    )
    families = [family for family in FAMILIES.values() if shown & set(family.kinds)]
    rng.shuffle(families)
    return next((question for family in families if (question := ask(rng, family, scene))), None)


_SHOWN: dict[type, frozenset[SceneKind]] = {
    Shape: frozenset(_SHAPED),
    Digit: frozenset({"digits", "sequence"}),
    Bar: frozenset({"bars"}),
}
