"""What a data folder holds of suites, for those who ask nothing of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.evals import layouts, pins, rows
from harness.evals.catalogue import Suite
from harness.evals.fields import SuiteQuestion
from harness.evals.set_aside import SetAside, nothing_left


def absent(suites: Sequence[Suite], data: Path) -> list[str]:
    """Names of those of `suites` that a data folder does not seem to hold; nothing is read."""
    return [
        suite.name
        for suite in suites
        if not suite.drawn
        and any(rows.find(suite, part, data) is None for part in suite.parts)
        and not layouts.find(suite, data)
    ]


def known_set_aside(suite: Suite, data: Path) -> list[SetAside]:
    """Rows that a data folder is known to hold and that cannot be asked; no picture is looked at.

    Raises:
        InputError: the pins or the authors' file cannot be read.
    """
    if files := rows.authors_files(suite, data):
        return layouts.read(suite, files)[1]
    pinned = pins.read(pins.file(data, suite))
    return list(pinned.set_aside) if pinned else []


def questions(suite: Suite, data: Path) -> tuple[list[SuiteQuestion], list[SetAside]]:
    """All questions of a suite in a data folder, for scoring alone, and the rows that are none: an authors'
    copy needs no pictures here.

    Raises:
        InputError: see `rows.open_parts`.
    """
    if files := rows.authors_files(suite, data):
        found, aside = layouts.read(suite, files)
        if not found:
            raise nothing_left(suite.name, data, aside)
        return [row.question for row in found], aside
    with TemporaryDirectory() as scratch:
        parts = rows.open_parts(suite, data, Path(scratch))
    whole = [question for part in parts for question in part.questions]
    return whole, list(rows.pins_of(parts).set_aside)
