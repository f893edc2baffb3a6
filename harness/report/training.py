"""Training as tables: what was asked, what labels were worth, the logged numbers, what stages took. A table
without rows has nothing to show."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from harness.analysis.measures import CalibrationBin, Rate
from harness.analysis.results import Results
from harness.report.held_out import family_cell
from harness.report.material import StageCost
from harness.tables.table import Cell, Column, Row, Table, keys, numbers, texts
from harness.tables.words import NBSP, number, percent
from vzero.pocket.families import FAMILIES

MEASURES = {
    "valid": "questions in the right form",
    "truncated": "questions truncated",
    "duplicates": "repeat another question",
    "letter_entropy_intuitive": "entropy of intuitive letters, nats",
    "letter_entropy_majority": "entropy of majority letters, nats",
    "mean_dual_track": "mean reward, by V-Zero's formula",
    "mean_confidence": "mean confidence c",
    "agreement": "intuitive answer = majority",
    "unparsed_votes": "votes that could not be read",
    "kept": "kept by the filter",
    "effective_families": "effective families",
    "hard": "hard",
    "well_posed": "well-posed",
    "well_posed_kept": "well-posed, kept",
    "hard_kept": "hard, kept",
    "intuitive_accuracy": "intuitive answer right",
    "label_accuracy": "label right",
    "label_accuracy_kept": "label right, kept",
    "label_accuracy_kept_strict": "label right, of all kept (ill-posed: none is)",
    "calibration_error": "calibration error of c",
}
KNOWN = (
    "Answers and labels that are right: of the well-posed questions alone, unless the row says otherwise. "
    "Hard: of the questions whose family is recognised.",
    "Effective families: so many families, asked equally often, would be as diverse (exp of the entropy).",
)
MEANS = ("mean_confidence", "mean_dual_track")  # rates that are no shares
LOGGED = {"reward": 3, "kl": 4, "grad_norm": 2, "completion_tokens": 1, "truncated": 3}  # and its decimals


def _iterations(found: Iterable[int]) -> tuple[Column, ...]:
    return numbers(*(f"iteration {t}" for t in found))


def questions(results: Results) -> Table:
    """What the questions and labels of each iteration were worth."""
    found = results.ground_truth
    values = {name: [getattr(one, name) for one in found.values()] for name in MEASURES}
    rows: list[Row] = [
        (label, *(_measure(name, value) for value in values[name]))
        for name, label in MEASURES.items()
        if any(value is not None for value in values[name])
    ]
    even = f"{math.log(4):.2f} where A to D are equally frequent"
    notes = [f"In{NBSP}% unless said otherwise, with n. Entropy of letters: {even}."]
    if any(one.well_posed is not None for one in found.values()):
        notes += KNOWN
    if all(one.well_posed is None for one in found.values()):
        notes.append(
            "These images have no known truth: well-posed questions and right labels are not counted."
        )
    planned = range(1, results.iterations + 1)
    notes += [f"Incomplete: iteration {t} has no questions yet." for t in planned if t not in found]
    title = "What was asked, and what the labels were worth"
    return Table(title, (*keys("measure"), *_iterations(found)), [rows], notes)


def _measure(name: str, value: Rate | float | None) -> Cell:
    if not isinstance(value, Rate):
        return Cell.number(value, digits=2)
    n = f"n {value.n:,}"
    return Cell.number(value.value, n) if name in MEANS else Cell.percent(value.value, n)


def calibration(results: Results) -> Table:
    """How often the label is right at each confidence."""
    known = {t: one.calibration for t, one in results.ground_truth.items() if one.calibration}
    found = {t: {one.c: one for one in bins} for t, bins in known.items()}

    def cell(one: CalibrationBin | None) -> Cell | None:
        return Cell.percent(one.value, f"n {one.n:,}") if one else None

    rows: list[Row] = [
        (Cell.number(c, digits=1), *(cell(bins.get(c)) for bins in found.values()))
        for c in sorted({c for bins in found.values() for c in bins})
    ]
    note = f"Labels that are right, in{NBSP}% of the well-posed questions of each confidence."
    title = "Is c the chance that the label is right?"
    return Table(title, (*numbers("c"), *_iterations(found)), [rows], [note])


def asked_families(results: Results) -> Table:
    """Which families the Questioner asks about, the most frequent first."""
    found = {t: one.families for t, one in results.ground_truth.items() if one.families}

    def cell(families: Mapping[str, int], name: str) -> Cell:
        count = families.get(name, 0)
        return Cell.number(count, f"{percent(count / sum(families.values()))}{NBSP}%")

    most = {name: max(one.get(name, 0) for one in found.values()) for name in chain(*found.values())}
    rows: list[Row] = [
        (family_cell(results, name), _asked(name), *(cell(families, name) for families in found.values()))
        for name in sorted(most, key=lambda name: (-most[name], name))
    ]
    columns = (*keys("family"), *texts("asks"), *_iterations(found))
    return Table("What the Questioner asks about", columns, [rows])


def _asked(family: str) -> str:
    """Its words, "…" for what changes from question to question."""
    known = FAMILIES.get(family)
    return re.sub(r"\{\w+\}", "\u2026", known.template) if known else ""


def logged(results: Results) -> Table:
    """Each training stage: means over its first and over its last eighth of steps."""
    rows: list[Row] = []
    for name, stage in results.training.items():
        ends = ((stage.metrics.get(metric), digits) for metric, digits in LOGGED.items())
        cells = (
            f"{number(one.first, digits)} \u2192 {number(one.last, digits)}" if one else None
            for one, digits in ends
        )
        rows.append((name, stage.steps, *cells))
    columns = (*keys("stage"), *numbers("steps", *(metric.replace("_", " ") for metric in LOGGED)))
    note = "Mean over the first and over the last eighth of the optimizer steps."
    return Table("Training", columns, [rows], [note])


def cost(stages: Sequence[StageCost]) -> Table:
    """The time of each finished stage and of its phases. Measured, so no part of the results."""
    phases = list(dict.fromkeys(name for one in stages for name in one.phases))
    rows: list[Row] = [
        (
            one.name,
            Cell.seconds(one.seconds),
            *(Cell.seconds(one.phases.get(name)) for name in phases),
            one.tokens,
        )
        for one in stages
    ]
    blank = [Cell("")] * (len(phases) + 1)
    total: list[Row] = [("all", Cell.seconds(sum(one.seconds or 0 for one in stages)), *blank)]
    columns = (*keys("stage"), *numbers("time", *phases, "tokens"))
    note = "Of a stage that was killed and resumed, only the last attempt is timed."
    return Table("Cost", columns, [rows, total] if rows else [], [note])
