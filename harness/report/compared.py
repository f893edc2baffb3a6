"""A comparison as tables and sentences; the terminal, Markdown, LaTeX and the HTML page show the same ones.

Measured rows carry gains with intervals; published and third-party rows are of another kind, say so in their
name and have a tone of their own. Every suite is a column and every loss a sentence: there is no way to leave
one out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.report.table import Cell, Table
from harness.report.words import MINUS, NBSP, NOTHING, TONES, interval, metric_label, p_value, percent, points

Comparison = Mapping[str, Any]
Row = Mapping[str, Any]
AVERAGE = "average"
PRINTED = "printed"  # tone of numbers that were not measured here
LIMIT = 0.05
FEW = 6  # losses that are all named at the top of a page
VERDICT_TONES = {"REPRODUCED": "good", "CONTRADICTED": "bad", "NOT RUN": "dim"}
_ORDER = ("REPRODUCED", "CONTRADICTED", "PROTOCOL DEVIATION", "INCONCLUSIVE", "NOT RUN")


def arms(comparison: Comparison, suites: Sequence[str] | None = None) -> Table:
    """Arms and checkpoints x suites. `suites` chooses the columns of one of several tables of a narrow page;
    all of them by default."""
    places = [
        *(comparison["suites"] if suites is None else suites),
        *([AVERAGE] if len(comparison["suites"]) > 1 else []),
    ]
    rows = tuple(_row(row, places, comparison["metric"]) for row in comparison["rows"])
    kinds = [row["kind"] for row in comparison["rows"]]
    breaks = frozenset(index for index in range(len(kinds) - 1) if kinds[index] != kinds[index + 1])
    return Table(
        f"Arms by suite, {metric_label(comparison['metric'])}",
        ("arm", *places, "scored", "unparsed", "cut off", "compute"),
        rows,
        1,
        (*notes(comparison), *losses(comparison)),
        breaks,
    )


def columns(table: Table, kept: Sequence[int]) -> Table:
    """The same table with these columns only."""
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[index] for index in kept), rows=rows)


def _row(row: Row, places: Sequence[str], metric: str) -> tuple[Cell, ...]:
    if row["kind"] != "measured":
        cells = (_printed(row["cells"].get(place, [])) for place in places)
        return (
            Cell(f"{row['kind']}: {row['name']}", PRINTED),
            *cells,
            *(Cell(NOTHING, "dim") for _ in range(4)),
        )
    kind = "greedy" if metric == "greedy" else "sampled"
    seeds = f"{len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else f"seed {row['seeds'][0]}"
    return (
        Cell(row["name"], "", seeds),
        *(_measured(row["cells"].get(place)) for place in places),
        _scored(row),
        *(_share(row[f"{what}_{kind}"]) for what in ("unparsed", "truncated")),
        Cell(compute(row), "" if row["compute_note"] is None else "bad"),
    )


def _measured(cell: Mapping[str, Any] | None) -> Cell:
    if cell is None:
        return Cell(NOTHING, "dim", "not measured")
    gain = cell["gain"]
    if gain is None:
        return Cell(percent(cell["value"]), "", interval_of_share(cell["low"], cell["high"]))
    return Cell(percent(cell["value"]), TONES[gain["direction"]], gain_words(gain))


def gain_words(gain: Mapping[str, Any]) -> str:
    """ "+3.4, +1.0 to +5.8, p .003": the gain, its interval, its p-value, corrected where there are several
    suites."""
    corrected = gain["p"] if gain["p_holm"] is None else gain["p_holm"]
    return f"{points(gain['gain'])}, {interval(gain['low'], gain['high'])}, p{NBSP}{p_value(corrected)}"


def interval_of_share(low: float | None, high: float | None) -> str:
    """ "77.7 to 82.0", or nothing."""
    return "" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _printed(numbers: Sequence[Mapping[str, Any]]) -> Cell:
    if not numbers:
        return Cell(NOTHING, "dim")
    return Cell(
        " / ".join(percent(one["value"]) for one in numbers),
        PRINTED,
        " / ".join(dict.fromkeys(one["certainty"] for one in numbers)),
    )


def _scored(row: Row) -> Cell:
    cells = [cell for place, cell in row["cells"].items() if place != AVERAGE and cell]
    scored, expected = sum(cell["n"] for cell in cells), sum(cell["expected"] for cell in cells)
    whole = scored == expected and all(cell for place, cell in row["cells"].items())
    return Cell(f"{scored:,} of {expected:,}", "" if whole else "bad")


def _share(share: float | None) -> Cell:
    return Cell(NOTHING, "dim") if share is None else Cell(percent(share), "bad" if share > LIMIT else "")


def compute(row: Row) -> str:
    """How the row's compute differs from the yardstick's; "equal" where it does not, nothing for an untrained
    model."""
    if not row["compute"]:
        return NOTHING if row["checkpoint"] == "base" or row["compute_note"] is None else row["compute_note"]
    return row["compute_note"] or "equal"


def notes(comparison: Comparison) -> list[str]:
    """How to read the table."""
    over = "each run's own base" if comparison["against"] == "base" else comparison["against"]
    said = [
        f"Accuracy in{NBSP}%, then the paired gain over {over} in points with its 95{NBSP}% interval and p (Holm over the suites; the "
        "average uncorrected). Several seeds: intervals hold seeds and images to be draws from many."
    ]
    if any(row["kind"] != "measured" for row in comparison["rows"]):
        said.append(
            "Published and third-party rows are numbers as printed, with how they were read; they were not measured here."
        )
    if comparison["pooled_from_sums"]:
        said.append(
            f"Without single items, from each run's own sums: {', '.join(comparison['pooled_from_sums'])}."
        )
        if comparison["against"] != "base":
            said.append(
                "Gains over an arm need single items: give the command that made those runs again, and results.json holds them."
            )
    said += [
        f"Not finished: {run['name']} (missing {', '.join(run['missing'])})."
        for run in comparison["runs"]
        if run["missing"]
    ]
    return said


def losses(comparison: Comparison) -> list[str]:
    """Every suite on which a row fell by as much as can be written, row by row; one sentence that there is
    none where there is none."""
    said = []
    for row in comparison["rows"]:
        if row["kind"] != "measured":
            continue
        gains = [(place, cell["gain"]) for place, cell in row["cells"].items() if cell and cell["gain"]]
        fell = [(place, gain) for place, gain in gains if points(gain["gain"]).startswith(MINUS)]
        if fell:
            where = ", ".join(
                f"{place} ({points(gain['gain'])}{', told from zero' if gain['direction'] == 'negative' else ''})"
                for place, gain in fell
            )
            said.append(f"{row['name']} loses on {where}.")
    trained = any(
        cell and cell["gain"]
        for row in comparison["rows"]
        if row["kind"] == "measured"
        for cell in row["cells"].values()
    )
    return said or (["No row loses on any suite."] if trained else [])


def headline(comparison: Comparison) -> list[str]:
    """The losses for the top of a page: all of them or, where they are many, their number and those told from
    zero."""
    said = losses(comparison)
    if len(said) <= FEW:
        return said
    rows = [row for row in comparison["rows"] if row["kind"] == "measured"]
    told = [
        f"{row['name']} on {place} ({points(cell['gain']['gain'])})"
        for row in rows
        for place, cell in row["cells"].items()
        if cell and cell["gain"] and cell["gain"]["direction"] == "negative"
    ]
    compared = sum(any(cell and cell["gain"] for cell in row["cells"].values()) for row in rows)
    return [
        f"{len(said)} of {compared} rows lose on some suite; each is named below the table.",
        f"Losses told from zero: {', '.join(told) or 'none'}.",
    ]


def claims(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Verdicts, those with a measurement first."""
    ordered = sorted(entries, key=lambda one: _ORDER.index(one["verdict"]))
    return Table(
        "Claims",
        ("claim", "said by", "verdict", "here"),
        tuple(
            (
                Cell(one["says"]),
                Cell(f"{one['source']}, {one['table']}", "", one["certainty"]),
                Cell(one["verdict"], VERDICT_TONES.get(one["verdict"], "")),
                Cell(_here(one)),
            )
            for one in ordered
        ),
        4,
    )


def cards(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts in the order of `claims`, each with what would settle it as sentences."""
    ordered = sorted(entries, key=lambda one: _ORDER.index(one["verdict"]))
    return [{**one, "sentences": [_needed(settle) for settle in one["settle"]]} for one in ordered]


def _needed(settle: Mapping[str, Any]) -> str:
    ways = [f"{settle[what]:,} {what}" for what in ("items", "seeds") if settle[what] is not None]
    would = (
        f"{' or '.join(ways)} would settle it ({settle['to']})"
        if ways
        else "neither more items nor more seeds alone would settle it"
    )
    return f"If {settle['supposing']} is the true one, {would}."


def _here(entry: Mapping[str, Any]) -> str:
    measured = entry["measured"]
    if measured is None:
        return entry["reason"] or ""
    return f"{points(measured['gain'])} points, {interval(measured['low'], measured['high'])}; {entry['sentence']}"
