"""Tables of what was asked in training, and what the labels were worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.table import Cell, Results, Table
from harness.report.words import NBSP, NOTHING, number, percent

SHADOW_ROWS = (
    ("valid", "questions in the right form"),
    ("truncated", "questions cut off"),
    ("distinct", "distinct among the valid"),
    ("duplicates", "repeat another question"),
    ("letter_entropy_intuitive", "entropy of intuitive letters, nats (of 1.39)"),
    ("letter_entropy_majority", "entropy of majority letters, nats (of 1.39)"),
    ("mean_dual_track", "mean dual-track reward of the written"),
    ("mean_confidence", "mean confidence c"),
    ("agreement", "intuitive answer = majority"),
    ("unparsed_votes", "votes that could not be read"),
    ("kept", "kept by the filter"),
    ("effective_families", "effective number of question families"),
    ("hard", "questions of hard families"),
    ("well_posed", "well-posed"),
    ("well_posed_kept", "well-posed among the kept"),
    ("hard_kept", "hard among the kept"),
    ("intuitive_accuracy", "intuitive answer right"),
    ("label_accuracy", "pseudo-label right"),
    ("label_accuracy_kept", "pseudo-label right, kept"),
    ("label_accuracy_kept_strict", "same, ill-posed counted as wrong"),
    ("calibration_error", "calibration error of c"),
)


def iterations(results: Results) -> Table | None:
    """Shadow measures, one column an iteration."""
    found = results["ground_truth"]
    if not found:
        return None
    rows = []
    for name, label in SHADOW_ROWS:
        values = [one.get(name) for one in found.values()]
        if all(value is None for value in values):
            continue
        rows.append((Cell(label), *(_measure_cell(name, value) for value in values)))
    notes = [
        f"In{NBSP}% unless said otherwise, with the number of cases. Accuracies are among well-posed questions."
    ]
    if all(one["well_posed"] is None for one in found.values()):
        notes.append(
            "These images have no known truth: how many questions are well-posed and how many labels are right is not measured."
        )
    notes += [
        f"Incomplete: iteration {t} has no questions yet."
        for t in range(1, results["iterations"] + 1)
        if str(t) not in found
    ]
    return Table(
        "What was asked, and what the labels were worth",
        ("measure", *(f"iteration {t}" for t in found)),
        tuple(rows),
        1,
        tuple(notes),
    )


def _measure_cell(name: str, value: Any) -> Cell:
    if value is None:
        return Cell(NOTHING, "dim")
    if not isinstance(value, Mapping):
        return Cell(number(value, 2))
    if name in ("mean_confidence", "mean_dual_track"):
        return Cell(number(value["value"]), "", f"n {value['n']:,}")
    return Cell(percent(value["value"]), "", f"n {value['n']:,}")


def calibration(results: Results) -> Table | None:
    """How often the pseudo-label is right at each confidence."""
    found = {
        t: {row["c"]: row for row in one["calibration"]}
        for t, one in results["ground_truth"].items()
        if one.get("calibration")
    }
    if not found:
        return None
    levels = sorted({c for rows in found.values() for c in rows})
    rows = tuple(
        (
            Cell(f"{c:.1f}"),
            *(
                Cell(percent(rows[c]["value"]), "", f"n {rows[c]['n']:,}")
                if c in rows
                else Cell(NOTHING, "dim")
                for rows in found.values()
            ),
        )
        for c in levels
    )
    return Table(
        "Is c the chance that the label is right?",
        ("c", *(f"iteration {t}" for t in found)),
        rows,
        0,
        ("Accuracy of the pseudo-label among well-posed questions at each confidence.",),
    )


def asked_families(results: Results) -> Table | None:
    """Which families the Questioner asks about."""
    found = {t: one["families"] for t, one in results["ground_truth"].items() if one.get("families")}
    if not found:
        return None
    names = sorted(
        {name for families in found.values() for name in families},
        key=lambda name: (-max(families.get(name, 0) for families in found.values()), name),
    )
    rows = tuple(
        (
            Cell(name, "", "hard" if name in results["hard_families"] else ""),
            *(
                Cell(
                    number(families.get(name, 0)),
                    "",
                    f"{percent(families.get(name, 0) / sum(families.values()))}{NBSP}%",
                )
                for families in found.values()
            ),
        )
        for name in names
    )
    return Table("What the Questioner asks about", ("family", *(f"iteration {t}" for t in found)), rows)
