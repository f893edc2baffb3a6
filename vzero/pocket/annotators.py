"""The text a base model is pretrained on: imperfect people writing questions and answers about scenes.

Three careful styles reason step by step, each with blind spots of its own (it misreads certain digits,
heights or shapes most of the time): a style is right about hard questions hardly more than two times in
three, a majority over styles more often, since the blind spots differ and so do the wrong answers they lead
to. A hasty style answers from intuition, a guessing one at random. Question writers mostly ask what is easy,
sometimes ask what has no right option, and give an intuitive answer that is often wrong on hard questions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeVar

from vzero.parsing import OPTIONS
from vzero.pocket.families import CELLS, FAMILIES, MAX_NUMBER, Family, PocketQuestion, ask, option_text
from vzero.pocket.world import MAX_BAR, Bar, Digit, Scene, SceneKind, Shape, bars, digits, shapes

T = TypeVar("T")
CAREFUL = ("look", "row", "check")
HASTY, GUESS = "seems", "maybe"


@dataclass(frozen=True)
class AnnotatorMix:
    """Who annotates: clean text comes first (no blind spots), then the mixture the base is to have learned.

    Attributes:
        hard_styles, easy_styles: (style, weight) on hard and on easy families.
        blindness: probability that a careful chain on a hard family has its style's blind spot.
        slip: probability of misreading any one thing by one.
        sloppiness: probability that an answer forgets its box.
        malformed: probability of each of three malformed kinds of question text.
        no_right_option: probability that a question with numbers does not offer the right one.
        hard_questions: share of hard families among written questions.
    """

    hard_styles: tuple[tuple[str, float], ...]
    easy_styles: tuple[tuple[str, float], ...]
    blindness: float = 0.0
    slip: float = 0.0
    sloppiness: float = 0.0
    malformed: float = 0.0
    no_right_option: float = 0.0
    hard_questions: float = 0.15


CLEAN = AnnotatorMix((("look", 1.0), ("row", 1.0), ("check", 1.0)), (("look", 0.8), (HASTY, 0.2)))
MIXTURE = AnnotatorMix(
    (("look", 0.26), ("row", 0.26), ("check", 0.26), (HASTY, 0.17), (GUESS, 0.05)),
    (("look", 0.72), (HASTY, 0.25), (GUESS, 0.03)),
    blindness=0.75,
    slip=0.02,
    sloppiness=0.02,
    malformed=0.03,
    no_right_option=0.06,
)

# What each careful style misreads: digit -> shift, height -> shift, colour -> colour; and a shape it
# overlooks. Shifts differ in size and sign between styles, so that two blind styles seldom agree on the same
# wrong number.
_DIGIT_SHIFT = {"look": {3: -1, 6: -1}, "row": {2: 1, 5: 1}, "check": {4: -2, 7: -2}}
_HEIGHT_SHIFT = {"look": {4: -1}, "row": {2: 1}, "check": {5: -2}}
_OVERLOOKED = {"look": "cross", "row": "square", "check": "triangle"}
_COLOR_SWAP = {"look": {"green": "blue"}, "row": {"red": "yellow"}, "check": {"blue": "green"}}


def perceive(rng: random.Random, style: str, scene: Scene, mix: AnnotatorMix) -> Scene:
    """The scene as a careful style sees it when a question is hard."""
    blind = rng.random() < mix.blindness
    seen = list(scene)
    for i, thing in enumerate(scene):
        slipped = rng.choice((-1, 1)) if rng.random() < mix.slip else 0
        if isinstance(thing, Digit) and thing.value is not None:
            shift = _DIGIT_SHIFT[style].get(thing.value, 0) if blind else 0
            seen[i] = Digit(min(9, max(1, thing.value + (shift or slipped))))
        elif isinstance(thing, Bar):
            shift = _HEIGHT_SHIFT[style].get(thing.height, 0) if blind else 0
            seen[i] = Bar(thing.color, min(MAX_BAR, max(1, thing.height + (shift or slipped))))
        elif isinstance(thing, Shape) and blind:
            overlooked = thing.form == _OVERLOOKED[style] and i >= 3
            color = _COLOR_SWAP[style].get(thing.color, thing.color)
            seen[i] = None if overlooked else Shape(color, thing.form)
    return tuple(seen)


def _ordered(style: str, things: list[tuple[int, T]]) -> list[tuple[int, T]]:
    if style == "row":
        return things[::-1]
    if style == "check":
        return sorted(things, key=lambda pair: (pair[0] % 3, pair[0] // 3))
    return things


def _running_sum(values: list[int]) -> list[str]:
    words, total = [str(values[0])], values[0]
    for value in values[1:]:
        total = min(total + value, MAX_NUMBER)
        words += ["+", str(value), "=", str(total)]
    return words


def _two(style: str, names: tuple[str, ...], values: list[int], sign: str) -> list[str]:
    """``c1 3 + c4 5 = 8``; "row" reads the second first."""
    pairs = list(zip(names, values, strict=True))
    (one, x), (other, y) = reversed(pairs) if style == "row" else pairs
    return [one, str(x), sign, other, str(y), "=", str(x + y if sign == "+" else abs(x - y))]


def _tally_steps(words: list[str], counted: list[bool], mark: list[str]) -> list[str]:
    """Each word, and behind a counted one `mark` and the count so far."""
    steps, count = [], 0
    for word, counts in zip(words, counted, strict=True):
        count += counts
        steps += [word, *mark, str(count)] if counts else [word]
    return steps


def _bar_steps(style: str, family: Family, arguments: tuple[str, ...], scene: Scene) -> list[str]:
    heights = {bar.color: bar.height for _, bar in bars(scene)}
    if family.name in ("tallest", "second"):
        return [word for _, bar in _ordered(style, bars(scene)) for word in (bar.color, str(bar.height))]
    if family.name == "bar_height":
        return [arguments[0], str(heights[arguments[0]])]
    sign = "-" if family.name == "bar_gap" else "+"
    words = _two(style, arguments[:2], [heights[color] for color in arguments[:2]], sign)
    if family.name == "bar_mix":
        total, third = int(words[-1]), heights[arguments[2]]
        words += ["-", arguments[2], str(third), "=", str(abs(total - third))]
    return words


def reason(style: str, asked: PocketQuestion, scene: Scene) -> list[str]:
    """The steps a careful style writes down about `scene` as it sees it, answer not included."""
    name, arguments = asked.family.name, asked.arguments
    if name in ("color_at", "shape_at"):
        thing = scene[CELLS.index(arguments[0])]
        return [arguments[0], thing.color, thing.form] if isinstance(thing, Shape) else [arguments[0]]
    if name == "digit_at":
        return [arguments[0], str(dict(digits(scene))[CELLS.index(arguments[0])])]
    if name in ("count_color", "count_shape"):
        here = [shape for _, shape in _ordered(style, shapes(scene))]
        words = [shape.form if name == "count_shape" else shape.color for shape in here]
        return _tally_steps(words, [word == arguments[0] for word in words], [])
    if name == "above":
        values = [value for _, value in _ordered(style, digits(scene))]
        return _tally_steps([*map(str, values)], [value > int(arguments[0]) for value in values], ["yes"])
    if name == "odd":
        return [shape.form for _, shape in shapes(scene)]
    if name == "largest":
        return [str(value) for _, value in digits(scene)]
    if name == "sum":
        return _running_sum([value for _, value in _ordered(style, digits(scene))])
    if name in ("cell_sum", "cell_gap"):
        at = dict(digits(scene))
        values = [at[CELLS.index(cell)] for cell in arguments]
        return _two(style, arguments, values, "+" if name == "cell_sum" else "-")
    if name == "next_digit":
        *_, before, last = (value for _, value in digits(scene))
        return [str(before), str(last), "+" if last > before else "-", str(abs(last - before))]
    return _bar_steps(style, asked.family, arguments, scene)


def intuition(rng: random.Random, asked: PocketQuestion) -> str:
    """An answer without thinking: right 95 times in 100 on easy families, 45 on hard ones."""
    if rng.random() < (0.45 if asked.family.hard else 0.95):
        return asked.answer
    return rng.choice(asked.options)


def _pick(rng: random.Random, weights: tuple[tuple[str, float], ...]) -> str:
    return rng.choices([name for name, _ in weights], [weight for _, weight in weights])[0]


def solver_text(
    rng: random.Random, asked: PocketQuestion, scene: Scene, mix: AnnotatorMix, style: str | None = None
) -> str:
    """An answer to `asked` in one of the mix's styles (or the one given), as the Solver is to write it."""
    style = style or _pick(rng, mix.hard_styles if asked.family.hard else mix.easy_styles)
    steps: list[str] = []
    if style in CAREFUL:
        seen = perceive(rng, style, scene, mix) if asked.family.hard else scene
        steps = reason(style, asked, seen)
        value = asked.family.answer(seen, asked.arguments)
        if asked.family.name == "bar_mix":
            value = steps[-1]
        value = value if value in asked.options else rng.choice(asked.options)
    else:
        value = intuition(rng, asked) if style == HASTY else rng.choice(asked.options)
    letter = OPTIONS[asked.options.index(value)]
    boxed = letter if rng.random() < mix.sloppiness else f"\\boxed{{ {letter} }}"
    return " ".join(["<think>", style, *steps, "so", value, letter, "</think>", boxed])


_SCENE_WORD = {"shapes": "shapes", "odd": "shapes", "digits": "digits", "sequence": "digits", "bars": "bars"}
_FAMILIES = {
    (kind, hard): [family for family in FAMILIES.values() if kind in family.kinds and family.hard == hard]
    for kind in _SCENE_WORD
    for hard in (False, True)
}


def any_question(
    rng: random.Random, kind: SceneKind, scene: Scene, hard_share: float
) -> PocketQuestion | None:
    """A question about `scene`, hard with probability `hard_share` where its kind has hard families."""
    hard = bool(_FAMILIES[kind, True]) and rng.random() < hard_share
    for _ in range(4):
        asked = ask(rng, rng.choice(_FAMILIES[kind, hard]), scene, attempts=5)
        if asked is not None:
            return asked
    return None


def _described(rng: random.Random, kind: SceneKind, scene: Scene, asked: PocketQuestion) -> str:
    """What the writer looked at: the kind of scene and the things asked about (or one at random)."""
    about = [word for word in asked.arguments if word in CELLS or (kind == "bars" and asked.family.slots)]
    if not about:
        if kind == "bars":
            about = [rng.choice(bars(scene))[1].color]
        else:
            about = [CELLS[rng.choice([i for i, thing in enumerate(scene) if thing is not None])]]
    return " ".join([_SCENE_WORD[kind], *about])


def questioner_text(rng: random.Random, kind: SceneKind, scene: Scene, mix: AnnotatorMix) -> str | None:
    """A description, a question with four options and an intuitive answer, as the Questioner writes them."""
    asked = any_question(rng, kind, scene, mix.hard_questions)
    if asked is None:
        return None
    options: tuple[str, ...] = asked.options
    intuitive = intuition(rng, asked)
    letter = OPTIONS[options.index(intuitive)]
    if asked.answer.isdigit() and rng.random() < mix.no_right_option:
        position = options.index(asked.answer)
        other = rng.choice([str(x) for x in range(10) if str(x) not in options])
        options = tuple(other if i == position else option for i, option in enumerate(options))
        intuitive = options[OPTIONS.index(letter)]
    question = f"{asked.family.text(asked.arguments)} {option_text(options)}"
    description = f"<description> {_described(rng, kind, scene, asked)} </description> "
    answer = f" <answer> {intuitive} {letter} </answer>"
    fault = rng.random()
    if fault < mix.malformed:
        question = " ".join(question.split()[:-2])
    elif fault < 2 * mix.malformed:
        answer = ""
    elif fault < 3 * mix.malformed:
        answer = f" <answer> {intuitive} </answer>"
    return f"{description}<question> {question} </question>{answer}"


def caption(scene: Scene) -> str:
    """Every thing with its cell, the plainest example of seeing."""
    words: list[str] = []
    for i, thing in enumerate(scene):
        if isinstance(thing, Shape):
            words += [CELLS[i], thing.color, thing.form]
        elif isinstance(thing, Bar):
            words += [CELLS[i], thing.color, "bar", str(thing.height)]
        elif isinstance(thing, Digit) and thing.value is not None:
            words += [CELLS[i], str(thing.value)]
    return " ".join(words)
