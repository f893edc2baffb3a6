"""Scripted Questioners and Solvers. They write real text; nothing here knows how it will be read or paid.

A Questioner is a finite distribution over drafts, a Solver one over replies, so that expectations can be
taken exactly. The right option is each of A-D equally often. The truth about a draft (`gold`, `kind`) travels
beside its text and is never in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from vzero.parsing import OPTIONS

Kind = Literal["easy", "hard", "unanswerable"]

# What an honest Questioner's first thought is worth: the chance that it is right.
INTUITION: Mapping[Kind, float] = {"easy": 0.9, "hard": 0.6}


@dataclass(frozen=True)
class Draft:
    """One reply that a Questioner may give.

    Attributes:
        weight: its probability.
        kind: how hard the question is, which decides how a Solver votes.
        gold: the right option; None where there is none.
        text: the whole reply.
        finish_reason: "length" where it was truncated.
        fault: what is wrong with its format; "" for a well-formed one.
    """

    weight: float
    kind: Kind
    gold: str | None
    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    fault: str = ""


@dataclass(frozen=True)
class Player:
    """A scripted Questioner: `summary` in one line what it does, `trick` what it would be to be paid for it
    ("" for an honest one)."""

    name: str
    summary: str
    trick: str
    drafts: tuple[Draft, ...]


@dataclass(frozen=True)
class Solver:
    """A Solver of known skill: independent votes; wrong ones spread evenly over the other options, all four
    where nothing is right.

    Attributes:
        easy, hard: share of its votes for the right option of such a question.
        unreadable: share of its replies that hold no boxed answer.
        beginnings: of the sentence that ends in the box, each equally often.
    """

    name: str
    easy: float
    hard: float
    unreadable: float = 0.0
    beginnings: tuple[str, ...] = ("",)

    def replies(self, kind: Kind, gold: str | None) -> dict[str, float]:
        """Reply -> probability, for one vote on a question."""
        right = self.easy if kind == "easy" else self.hard
        found = {UNREADABLE: self.unreadable} if self.unreadable else {}
        for letter in OPTIONS:
            if gold is None:
                share = (1 - self.unreadable) / 4
            else:
                share = right if letter == gold else (1 - self.unreadable - right) / 3
            for style in _BOXES:
                box = style.format(upper=letter, lower=letter.lower())
                for beginning in self.beginnings:
                    found[_REASONING + beginning + box] = share / len(_BOXES) / len(self.beginnings)
        return found


_REASONING = "<think>I look at each shape in turn, then I compare the options.</think>\n"
_BOXES = ("\\boxed{{{upper}}}", "\\boxed{{{lower}}}", "\\boxed{{\\text{{{upper}}}}}", "\\boxed{{({upper})}}")
# Prose with an article and a letter that is no vote: a reader that guesses from prose takes it for one.
UNREADABLE = "<think>I look at each shape.</think>\nIt is a circle next to point B, so I cannot choose."

GUESSING = Solver("guessing", easy=0.25, hard=0.25)  # also what a Solver is that never gets the image
SOLVERS = (
    Solver("flawless", easy=1.0, hard=0.6),
    Solver("able", easy=0.95, hard=0.5),
    Solver("weak", easy=0.7, hard=0.35, unreadable=0.05),
    GUESSING,
)

# The question and its right value; the options count up around it.
_BODIES: Mapping[Kind, tuple[str, int]] = {
    "easy": ("How many red circles are in the picture?", 4),
    "hard": ("Add the digits on the blue tiles, then subtract the tallest bar's height. What is left?", 17),
    "unanswerable": ("How many coins lie behind the wall?", 6),
}


def _question(kind: Kind, gold: str | None) -> str:
    """A question with four different options, the right one at `gold`; for None no option is right."""
    body, value = _BODIES[kind]
    offset = 0 if gold is None else OPTIONS.index(gold)
    return body + "".join(f"\n{letter}) {value - offset + place}" for place, letter in enumerate(OPTIONS))


def _reply(kind: Kind, gold: str | None, intuitive: str) -> str:
    return (
        "<description>Coloured shapes, tiles with digits and four bars.</description>\n"
        f"<question>{_question(kind, gold)}</question>\n<answer>{intuitive}</answer>"
    )


def _leaning(kind: Kind, right: float) -> Iterator[Draft]:
    """Questions of one kind whose intuitive answer is right with chance `right`, else any of the others."""
    for gold in OPTIONS:
        for intuitive in OPTIONS:
            weight = right if intuitive == gold else (1 - right) / 3
            if weight:
                yield Draft(weight / 4, kind, gold, _reply(kind, gold, intuitive))


def _broken() -> Iterator[Draft]:
    """Easy questions spoiled in eight ways, each equally often."""
    good, question = _reply("easy", "B", "B"), _question("easy", "B")
    faults = {
        "no tags": question + "\nB",
        "three options": good.replace("\nD)", "\n"),
        "no answer": good[: good.index("<answer>")],
        "empty answer": _reply("easy", "B", ""),
        "lower-case answer": _reply("easy", "B", "b"),
        "answer inside the question": good.replace(
            "</question>\n<answer>B</answer>", "\n<answer>B</answer></question>"
        ),
        "chat token": good.replace("circles", "circles<|im_end|>"),
        "truncated": good,
    }
    for fault, text in faults.items():
        yield Draft(1 / len(faults), "easy", "B", text, "length" if fault == "truncated" else "stop", fault)


PLAYERS = (
    Player(
        "honest, hard",
        "hard questions; first thought right 60 %",
        "",
        tuple(_leaning("hard", INTUITION["hard"])),
    ),
    Player(
        "honest, easy",
        "easy questions; first thought right 90 %",
        "",
        tuple(_leaning("easy", INTUITION["easy"])),
    ),
    Player(
        "constant letter",
        'easy questions; always answers "B"',
        "an easy question with the same letter as intuitive answer every time",
        tuple(Draft(0.25, "easy", gold, _reply("easy", gold, "B")) for gold in OPTIONS),
    ),
    Player(
        "wrong on easy",
        "easy questions; answers wrong on purpose",
        "a trivial question with a deliberately wrong guess",
        tuple(_leaning("easy", 0.0)),
    ),
    Player(
        "unanswerable",
        "no option is right; answers at random",
        "a question that has no right option",
        tuple(Draft(0.25, "unanswerable", None, _reply("unanswerable", None, letter)) for letter in OPTIONS),
    ),
    Player(
        "format-breaking",
        "easy questions in eight broken formats",
        "a reply in a broken format",
        tuple(_broken()),
    ),
)
