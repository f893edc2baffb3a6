"""A comparison of runs as tables and sentences.

Measured rows carry gains with intervals; printed numbers (published, third-party) say so in their row's name
and have a tone of their own. Every suite is a column and every loss a sentence: none can be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.analysis.comparison import ArmRow, Comparison
from harness.analysis.compute_notes import TOTAL
from harness.analysis.published_rows import PublishedNumber, PublishedRow
from harness.analysis.results import AVERAGE, BASE
from harness.analysis.scores import Score
from harness.report.findings import metric_label
from harness.report.held_out import FAULT_LIMIT, TONES, places
from harness.stats import Gain
from harness.tables.table import Cell, Row, Table, keys, numbers, texts
from harness.tables.words import MINUS, MISSING, NBSP, counted, interval, p_value, percent, points

PRINTED = ("published", "third-party")  # kinds of rows that were not measured here
ESTIMATED = "\u2248"  # before a total compute
FEW = 6  # losses that are all named at the top of a page


def table(comparison: Comparison) -> Table:
    """Arms and checkpoints by suite."""
    columns = places(comparison.suites)
    return Table(
        f"Arms by suite, {metric_label(comparison.metric)}",
        (*keys("arm"), *numbers(*columns, "scored", "unparsed", "truncated"), *texts("compute")),
        [
            [_measured(row, columns, comparison.metric) for row in comparison.rows],
            *(
                [_printed(row, columns) for row in comparison.published if row.kind == kind]
                for kind in PRINTED
            ),
        ],
        (*notes(comparison), *losses(comparison)),
    )


def _measured(row: ArmRow, columns: Sequence[str], metric: str) -> Row:
    seeds = counted(len(row.seeds), "seed") if len(row.seeds) > 1 else f"seed {row.seeds[0]}"
    return (
        Cell.of(row.name, seeds),
        *(_score(row.scores.get(place)) for place in columns),
        _scored(row),
        *(_fault(row.fault(name, metric)) for name in ("unparsed", "truncated")),
        _compute(row),
    )


def _fault(share: float | None) -> Cell:
    return Cell.percent(share, tone="bad" if share is not None and share > FAULT_LIMIT else "")


def _score(score: Score | None) -> Cell:
    if score is None:
        return Cell.missing("not measured")
    gain = score.gain
    if gain is None:
        known = score.low is not None and score.high is not None
        bounds = [f"{percent(score.low)} to {percent(score.high)}"] if known else []
        return Cell.percent(score.value, *bounds)
    p = gain.p if gain.p_corrected is None else gain.p_corrected
    details = (points(gain.gain), interval(gain.low, gain.high), f"p{NBSP}{p_value(p)}")
    return Cell.percent(score.value, *details, tone=TONES[gain.direction])


def _scored(row: ArmRow) -> Cell:
    scores = {place: score for place, score in row.scores.items() if place != AVERAGE}
    scored = sum(score.n for score in scores.values() if score)
    expected = sum(score.expected for score in scores.values() if score)
    whole = scored == expected and all(scores.values())
    return Cell.of(f"{scored:,} of {expected:,}", tone="" if whole else "bad")


def _compute(row: ArmRow) -> Cell:
    """How the row's compute differs from the reference's, in all and in what; a dash for an untrained
    model."""
    if row.compute:
        return Cell.of(_marked(row, row.compute_note or "equal"), tone="bad" if row.compute_note else "")
    return Cell.of(MISSING if row.checkpoint == BASE else row.compute_note or MISSING)


def total(row: ArmRow) -> Cell:
    """Its total over the reference's."""
    cell = Cell.ratio(row.compute_ratio)
    return cell if row.compute_ratio is None else replace(cell, text=_marked(row, cell.text))


def _estimate(row: ArmRow) -> str | None:
    """How a total was estimated that is said: only a last checkpoint has one then."""
    return row.compute_estimated if TOTAL in row.compute else None


def _marked(row: ArmRow, text: str) -> str:
    return f"{ESTIMATED}{text}" if _estimate(row) else text


def estimates(comparison: Comparison) -> list[str]:
    """What the mark means; nothing where no row has it."""
    what = dict.fromkeys(filter(None, map(_estimate, comparison.rows)))
    return [f"{ESTIMATED}: the compute was not counted but estimated, by {one}." for one in what]


def _printed(row: PublishedRow, columns: Sequence[str]) -> Row:
    cells = (_numbers(row.numbers.get(place, [])) for place in columns)
    return (Cell.of(f"{row.kind}: {row.name}", tone="printed"), *cells, *[None] * 4)


def _numbers(found: Sequence[PublishedNumber]) -> Cell | None:
    if not found:
        return None
    read = " / ".join(dict.fromkeys(one.certainty for one in found))
    return Cell.of(" / ".join(percent(one.value) for one in found), read, tone="printed")


def notes(comparison: Comparison) -> list[str]:
    """How to read the table."""
    over = "each run's own base" if comparison.against == BASE else comparison.against
    said = [
        f"Accuracy in{NBSP}%, then the paired gain over {over} in points, its 95{NBSP}% interval and p, "
        "corrected over all gains of this table (Benjamini-Hochberg). Intervals over seeds and images need "
        "three seeds; with one seed they cover images alone."
    ]
    if toys := list(dict.fromkeys(run.preset for run in comparison.runs if not run.evidence)):
        said.append(
            f"Preset {', '.join(toys)} is too small to say anything about a method: nothing of it is judged."
        )
    said += [*mixed(comparison), *estimates(comparison)]
    if comparison.published:
        said.append("Published and third-party rows are numbers as printed; they were not measured here.")
    return said + [
        f"Not finished: {run.name} (missing {', '.join(run.missing)})."
        for run in comparison.runs
        if run.missing
    ]


def mixed(comparison: Comparison) -> list[str]:
    """A sentence for each arm whose runs share a row and not their settings."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for run in comparison.runs:
        if run.settings is not None:
            key = (run.preset, run.arm, run.model, run.split)
            found.setdefault(key, {}).setdefault(run.settings, run.name)
    return [
        f"WARNING: runs of {key[1]} with other settings share a row ({', '.join(names.values())}); "
        "vzero-harness diff says which."
        for key, names in found.items()
        if len(names) > 1
    ]


def _gains(row: ArmRow) -> Iterator[tuple[str, Gain]]:
    return ((place, score.gain) for place, score in row.scores.items() if score and score.gain)


def losses(comparison: Comparison) -> list[str]:
    """Every suite on which a row fell by as much as is written; a sentence where there is none."""
    said = []
    for row in comparison.rows:
        fell = [
            f"{place} ({points(gain.gain)}{', significant' if gain.direction == 'negative' else ''})"
            for place, gain in _gains(row)
            if points(gain.gain).startswith(MINUS)
        ]
        if fell:
            said.append(f"{row.name} loses on {', '.join(fell)}.")
    compared = any(True for row in comparison.rows for _ in _gains(row))
    return said or (["No row loses on any suite."] if compared else [])


def headline(comparison: Comparison) -> list[str]:
    """The losses for the top of a page: where they are many, their number and the significant ones."""
    said = losses(comparison)
    if len(said) <= FEW:
        return said
    significant = [
        f"{row.name} on {place} ({points(gain.gain)})"
        for row in comparison.rows
        for place, gain in _gains(row)
        if gain.direction == "negative"
    ]
    compared = sum(any(True for _ in _gains(row)) for row in comparison.rows)
    return [
        f"{len(said)} of {compared} rows lose on some suite; each is named below the table of all numbers.",
        f"Significant losses: {', '.join(significant) or 'none'}.",
    ]
