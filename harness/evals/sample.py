"""`--limit N`: an even sample of a suite's rows, the same for every checkpoint and in every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.evals import write
from harness.evals.fields import SuiteQuestion
from harness.evals.rows import OpenPart
from vzero.runtime.seeding import derive

Place = tuple[int, int]  # which part, which row


def limited(parts: Sequence[OpenPart], limit: int, folder: Path) -> list[OpenPart]:
    """At most `limit` rows of a suite, in their order, saved below `folder`; parts without any are left out.

    Each part, and within it each value of the group that the suite's table is by, gives its share: so the
    accuracy of the sample is an estimate of the suite's. Rows that count together (a pair, the variants of a
    question) come together, so a sample holds one such set at least and may fall short of `limit`. A larger
    sample begins with the same sets.
    """
    taken: set[Place] = set()
    for members in _in_order(parts):
        if not taken or len(taken) + len(members) <= limit:
            taken.update(members)
    found = []
    for number, opened in enumerate(parts):
        if rows := [row for row in range(len(opened.questions)) if (number, row) in taken]:
            found.append(_part(opened, rows, folder / opened.suite.name / str(number)))
    return found


def _in_order(parts: Sequence[OpenPart]) -> list[list[Place]]:
    """The sets in the order in which they are taken. Set k of the n of its part and group, counted in a
    seeded order, comes after (k + 1/2) / n of all: any beginning is spread evenly."""
    suite = parts[0].suite
    questions: dict[Place, SuiteQuestion] = {}
    for number, opened in enumerate(parts):
        questions |= {(number, row): one for row, one in enumerate(opened.questions)}
    sets = _together(questions)
    # By the id of a set's first row: without a row that is set aside the others keep their order.
    sets.sort(key=lambda one: derive(0, "limit", suite.name, questions[one[0]].item.id))
    groups = [(one[0][0], dict(questions[one[0]].item.group).get(suite.table)) for one in sets]
    sizes, seen = Counter(groups), Counter[tuple[int, str | None]]()
    places = []
    for group in groups:
        places.append((seen[group] + 0.5) / sizes[group])
        seen[group] += 1
    return [sets[index] for index in sorted(range(len(sets)), key=places.__getitem__)]


def _together(questions: dict[Place, SuiteQuestion]) -> list[list[Place]]:
    """The rows, joined wherever two belong to a set of the same name and key; each in order."""
    joined: dict[Place, list[Place]] = {place: [place] for place in questions}
    first: dict[tuple[str, str], Place] = {}
    for place, question in questions.items():
        for key in question.together.items():
            one, other = joined[first.setdefault(key, place)], joined[place]
            if one is not other:
                one.extend(other)
                joined |= dict.fromkeys(other, one)
    return [sorted(members) for place, members in joined.items() if members[0] == place]


def _part(opened: OpenPart, rows: Sequence[int], folder: Path) -> OpenPart:
    chosen = opened.rows.select(rows)
    write.save_table(chosen, opened.part.split, folder, opened.suite.images)
    return replace(
        opened,
        folder=folder,
        rows=chosen,
        questions=tuple(opened.questions[row] for row in rows),
        digests=tuple(opened.digests[row] for row in rows),
    )
