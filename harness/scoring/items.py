"""One question of a benchmark, as far as scoring needs it, and what a response answers to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["choice", "multi", "integer", "float", "list", "text"]

LETTERS = tuple("ABCDEFGHI")
DIGITS = tuple("123456789")


@dataclass(frozen=True)
class Item:
    """A question with its gold answer.

    Attributes:
        question: the bare question, options included where the suite writes them into it.
        options: texts, in the order of `labels`; empty where they stand in the image alone.
        labels: what an answer may name: letters, for LogicVista also digits; empty for free answers.
        gold: alternatives, any of which is right; of a "multi" the right set. Empty: never scored.
        kind: "choice" has one label as its answer, "multi" a set of them; the others are free answers.
        precision: decimals of a "float" to which it is rounded; None: see `lenses`.
        unit: of a free answer, where the suite states one.
        group: (name, value) pairs for the tables by skill; a name may occur several times.
        tolerance: largest difference of a right number from the gold, where the suite states one.
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
    tolerance: float | None = None

    @property
    def is_choice(self) -> bool:
        """Whether the answer is made of labels."""
        return self.kind in ("choice", "multi")

    def text_of(self, label: str) -> str:
        """An option's text; empty where it stands in the image alone."""
        return self.texts.get(label, "")

    @cached_property
    def texts(self) -> dict[str, str]:
        """Label -> text of every option that has one."""
        return {label: text for label, text in zip(self.labels, self.options, strict=False) if text}


@dataclass(frozen=True)
class Reading:
    """What a response answers.

    Attributes:
        found: the chosen labels, sorted, or one value; empty: unread.
        how: the rule that read it ("box", "tag", "whole", "sentence", "model"), or why nothing was read.
    """

    found: tuple[str, ...] = ()
    how: str = "nothing"
