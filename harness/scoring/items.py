"""One question of a benchmark, as far as scoring needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["choice", "multi", "integer", "float", "list", "text"]
Rule = Literal["mathvista", "logicvista"]

LETTERS = tuple("ABCDEFGHI")
DIGITS = tuple("123456789")


@dataclass(frozen=True)
class Item:
    """A question with its gold answer.

    Attributes:
        question: the bare question, options included where the suite writes them into it.
        options: the options' texts, in the order of `labels`; empty where they stand in the image alone.
        labels: what an answer may name: letters, for LogicVista also digits; empty for free answers.
        gold: the right labels: of a "choice" the one (or several equal options), of a "multi" the
            whole set; or the one right value of a free answer. Empty: the suite has no gold for this row; it
            is counted apart and never scored.
        kind: "choice" has one label as its answer, "multi" any set of them; the others are free
            answers.
        precision: decimals of a "float"; None elsewhere.
        unit: of a free answer, where the suite states one.
        group: (name, value) pairs for the tables by skill; a name may occur several times.
        rule: whose published scoring the official lens follows; None: there is none here.
    """

    id: str
    question: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    gold: tuple[str, ...]
    kind: Kind
    precision: int | None = None
    unit: str | None = None
    group: tuple[tuple[str, str], ...] = ()
    rule: Rule | None = None

    @property
    def is_choice(self) -> bool:
        """Whether the answer is made of labels."""
        return self.kind in ("choice", "multi")


@dataclass(frozen=True)
class Extraction:
    """What a response answers.

    Attributes:
        labels: the chosen labels, sorted, of a choice question; empty otherwise.
        value: the free answer in plain notation ("1200", "0.5", "[1, 2]"); None for labels and where nothing
            was found.
        parsed: whether an answer was found. Else the strict lens counts it wrong.
        how: the rule that found it ("box", "answer-tag", "cue", ...), or why nothing was found.
        text: what the official lens is handed where neither labels nor value are there: the words that stood
            in the answer's place.
    """

    labels: tuple[str, ...] = ()
    value: str | None = None
    parsed: bool = False
    how: str = "nothing"
    text: str = ""

    @property
    def answer(self) -> list[str]:
        """Labels, or the value as a list of one, or nothing."""
        return list(self.labels) if self.labels else [] if self.value is None else [self.value]


@dataclass(frozen=True)
class Reading:
    """What a response answers.

    Attributes:
        found: the chosen labels, sorted, or one value; empty: unread.
        how: the rule that read it ("box", "tag", "sentence", "whole"), or why nothing was read.
        text: the words in the answer's place, for the official lens, where they name no option.
    """

    found: tuple[str, ...] = ()
    how: str = "nothing"
    text: str = ""
