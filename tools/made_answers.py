"""Answers made from the real rows of benchmarks: the gold given back, and wrong answers near it.

How an answer is made depends on the row alone, never on the code that scores it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from harness.evals import fields
from harness.evals.layouts import items as load
from harness.scoring import LETTERS, Item, judge, read
from harness.tables.table import Cell, Table, keys, numbers
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive

LOCAL = ("dynamath", "logicvista", "mathverse", "mathvision", "mathvista")  # in their authors' layouts
Made = tuple[str, str]  # (form, response)


def suites(data: Path) -> dict[str, list[Item]]:
    """The items with gold of every suite in `data`."""
    found = {"blink": _blink(data), "hallusionbench": _hallusionbench(data)}
    found |= {name: load(name, data) for name in LOCAL}
    return {name: [item for item in items if item.gold] for name, items in found.items()}


def _blink(data: Path) -> list[Item]:
    rows = artefacts.read_jsonl(data / "blink" / "published" / "GPT4Turbo.jsonl")
    return [
        Item(
            row["id"],
            row["question"],
            tuple(row["options"]),
            LETTERS[: len(row["options"])],
            (row["answer"],) if row["answer"] in LETTERS else (),
            "choice",
        )
        for row in rows
    ]


def _hallusionbench(data: Path) -> list[Item]:
    rows = json.loads((data / "hallusionbench" / "HallusionBench.json").read_text(encoding="utf-8"))
    return [fields.hallusionbench(row, str(number)).item for number, row in enumerate(rows)]


def is_numeric(item: Item) -> bool:
    """Whether the gold is one number, by its kind alone."""
    return item.kind in ("integer", "float")


def echoes(item: Item) -> Iterator[Made]:
    """The gold given back."""
    gold = ", ".join(item.gold) if item.kind == "multi" else item.gold[0]
    yield "box", f"\\boxed{{{gold}}}"
    yield "sentence", f"The answer is {gold}."
    yield "bare", gold
    if is_numeric(item):
        unit = item.unit or "cm"
        yield "box with unit", f"\\boxed{{{gold}\\text{{ {unit}}}}}"
        yield "number with unit", f"{gold} {unit}"
        if not item.unit:
            yield "box with square unit", f"\\boxed{{{gold}\\text{{ cm}}^2}}"


def wrong(item: Item) -> Iterator[Made]:
    """Answers that deserve no credit: each states another answer, several, or none."""
    draw = random.Random(derive(0, "wrong answers", item.id))
    if item.is_choice:
        yield from _wrong_choices(item, draw)
    elif is_numeric(item):
        yield from _wrong_numbers(item, draw)
    else:
        yield from _wrong_texts(item)
    yield "echo of the question", item.question
    yield "question and a draft", f"{item.question}\nLet us look at the picture step by step."


def _wrong_choices(item: Item, draw: random.Random) -> Iterator[Made]:
    gold, others = item.gold[0], [label for label in item.labels if label not in item.gold]
    if item.kind == "multi":  # the labels that the question may mean are fewer than all
        others = others[: max(3, len(item.options))]
    other = draw.choice(others)
    text, own = item.text_of(other), item.text_of(gold)
    yield "another option", f"\\boxed{{{other}}}"
    yield "another option's sentence", f"The picture shows it. The answer is ({other}) {text}".rstrip() + "."
    yield "corrected", f"The answer is ({gold}). Wait, that is wrong. The answer is ({other})."
    yield "two options", f"The answer is either ({gold}) or ({other})."
    yield "two named", f"It could be ({gold}), but ({other}) is possible too."
    yield "conditional", f"If it is drawn to scale, the answer is ({gold}); if not, it is ({other})."
    yield "contrast", f"The answer is ({other}), whereas ({gold}) {own or 'is not drawn right'}."
    yield "denied", f"The answer is not ({gold})."
    yield "rejected", f"{gold} is wrong."
    yield "hearsay", f"Some would say that the answer is ({gold})."
    yield "refusal", f"I cannot determine whether ({gold}) or ({other}) is the answer."
    yield "unfinished thought", f"<think>It looks like ({gold}). So the answer is ({gold}), but let me"
    yield "empty box", f"Is it ({gold}) or ({other})? \\boxed{{}}"
    yield "drafts before", f"\\boxed{{{gold}}} was my first idea. On a second look: \\boxed{{{other}}}"
    yield "options and variable", f"\\boxed{{{gold}x}}"
    yield (
        "all options",
        "\n".join(f"({label}) {text}" for label, text in zip(item.labels, item.options, strict=False)),
    )
    if text and own and _far(text, own):
        yield "another option's text", f"\\boxed{{{text}}}"
        yield "another option's text alone", text


def _far(text: str, own: str) -> bool:
    """Whether two options differ in more than signs and letter case."""
    one, two = ("".join(filter(str.isalnum, side.casefold())) for side in (text, own))
    return one != two and bool(one)


def _wrong_numbers(item: Item, draw: random.Random) -> Iterator[Made]:
    gold = item.gold[0]
    number = Fraction(gold)
    step = draw.choice((1, 2, 5))
    more = _written(number + step)
    yield "another number", f"\\boxed{{{more}}}"
    yield "another number's sentence", f"Adding up, the answer is {more}."
    yield "variable", f"\\boxed{{{gold}x}}"
    yield "variable alone", f"\\boxed{{{gold} + n}}"
    yield "ratio", f"\\boxed{{{gold}:1}}"
    yield "plus-minus", f"\\boxed{{\\pm {more}}}"
    yield "set", f"\\boxed{{\\{{{gold}, {more}\\}}}}"
    yield "interval", f"\\boxed{{[{gold}, {more}]}}"
    yield "inequality", f"\\boxed{{x > {gold}}}"
    yield "conditional", f"If the figure is closed, the answer is {gold}; if not, it is {more}."
    yield "two numbers", f"The answer is {gold} or {more}."
    yield "contrast", f"The answer is {more}, not {gold}."
    yield "denied", f"The answer is not {gold}."
    yield "refusal", f"I cannot determine whether it is {gold}."
    yield "more than", f"The answer is more than {gold}."
    yield "hearsay", f"Some would say that the answer is {gold}."
    yield "thousand", f"It is {gold} thousand."
    yield "corrected", f"The answer is {gold}. Wait, I made a mistake. The answer is {more}."
    yield "unfinished thought", f"<think>So it must be {gold}. The answer is {gold}, but let me"
    yield "empty box", f"Maybe {gold}. \\boxed{{}}"
    yield "million", f"\\boxed{{{gold} \\text{{ million}}}}"
    if abs(number) > 1:
        yield "reciprocal", f"\\boxed{{\\frac{{1}}{{{gold}}}}}"
        yield "square", f"\\boxed{{{gold}^2}}"
        yield "tenfold", f"\\boxed{{{gold} \\times 10^2}}"
        yield "sign", f"\\boxed{{{_written(-number)}}}"


def _written(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.10g}"


def _wrong_texts(item: Item) -> Iterator[Made]:
    gold = item.gold[0]
    if "\\boxed" in gold:  # one row of MathVision: whatever holds it has the box
        return
    yield "another text", "\\boxed{\\text{none of these}}"
    yield "with a term more", f"\\boxed{{{gold} + 7}}"
    yield "with a variable", f"\\boxed{{{gold} z}}"
    if gold.isalpha() and len(gold) > 2:
        yield "cut", f"\\boxed{{\\text{{{gold[:-1]}}}}}"
        yield "its letters", f"\\boxed{{\\text{{{gold[1:]}{gold[0]}}}}}" if len(set(gold)) > 1 else ""
    yield "conditional", f"If the figure is closed, the answer is {gold}; if not, it is 1."
    yield "denied", f"The answer is not {gold}."
    yield "refusal", f"I cannot determine whether it is {gold}."
    yield "corrected", f"The answer is {gold}. Wait, I made a mistake. The answer is 0.1234."
    yield "unfinished thought", f"<think>So it must be {gold}. The answer is {gold}, but let me"
    yield "empty box", f"Maybe {gold}. \\boxed{{}}"
    yield "two", f"The answer is {gold} or 0.1234."


@dataclass
class Tried:
    """Made answers to one suite. `differing` names "id: form" of golds that were not right, or of wrong
    answers that were."""

    suite: str
    made: str
    items: int
    n: int = 0
    differing: list[str] = field(default_factory=list)


def tried(suite: str, items: Sequence[Item], gold: bool) -> Tried:
    """The gold given back to every item, or the wrong answers made from it."""
    found = Tried(suite, "gold" if gold else "wrong", len(items))
    for item in items:
        for form, response in echoes(item) if gold else wrong(item):
            found.n += 1
            if judge(item, read(item, response)).verified != gold:
                found.differing.append(f"{item.id}: {form}")
    return found


def table(made: Sequence[Tried]) -> Table:
    """The gold given back, and wrong answers made from it."""
    columns = (*keys("suite"), *numbers("items", "golds given back", "right", "wrong answers", "credited"))
    rows = []
    for gold, wrong in zip(made[::2], made[1::2], strict=True):
        counts = (gold.items, gold.n, gold.n - len(gold.differing), wrong.n, len(wrong.differing))
        rows.append((Cell.of(gold.suite), *map(Cell.number, counts)))
    notes = [f"Not right: {one.suite} {name}." for one in made[::2] for name in one.differing]
    notes += [f"Credited: {one.suite} {name}." for one in made[1::2] for name in one.differing]
    return Table("Answers made from the rows (`tools/made_answers.py`)", columns, [rows], notes)
