"""The truth about a question somebody wrote: which family it is, whether it has a right option, and which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vzero.parsing import OPTION_MARKS, OPTIONS
from vzero.pocket.families import FAMILIES
from vzero.pocket.world import Scene


@dataclass(frozen=True)
class Truth:
    """What the world knows about a written question.

    Attributes:
        family: name, or None where the words are no question the world understands.
        answer: letter of the right option, None where there is none.
        well_posed: understood, answerable in this scene, four different options and the right one among them.
        hard: whether the family is a hard one; None where there is no family.
    """

    family: str | None
    answer: str | None
    well_posed: bool
    hard: bool | None


def truth(question: str, scene: Scene) -> Truth:
    """The truth about `question` (text with options) in `scene`. Total: any string gives a Truth."""
    words = question.split()
    try:
        marks = [words.index(mark) for mark in OPTION_MARKS]
    except ValueError:
        return Truth(None, None, False, None)
    ordered = (
        marks == sorted(marks) and len(words) == marks[-1] + 2 and all(b - a == 2 for a, b in pairwise(marks))
    )
    body = words[: marks[0]]
    for family in FAMILIES.values():
        arguments = family.match(body)
        if arguments is None:
            continue
        options = [words[mark + 1] for mark in marks] if ordered else []
        answer = family.answer(scene, arguments)
        right = OPTIONS[options.index(answer)] if answer in options and len(set(options)) == 4 else None
        return Truth(family.name, right, right is not None, family.hard)
    return Truth(None, None, False, None)
