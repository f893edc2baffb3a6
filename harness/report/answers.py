"""Tables of single answers: accuracy by number of samples, and greedy answers that changed sides."""

from __future__ import annotations

from harness.report.table import Cell, Results, Table
from harness.report.words import MINUS, NBSP, number, percent


def by_samples(results: Results) -> Table | None:
    """maj@k and pass@k of every model for some k, mean of the suites."""
    found = {model: one for model, one in results["k_curves"].items() if one}
    if not found:
        return None
    ks = next(iter(found.values()))["k"]
    chosen = [k for k in ks if k in (1, 2, 3, 5) or k == ks[-1]]
    rows, breaks = [], set()
    for model, one in found.items():
        for index, (key, label) in enumerate((("majority", "maj@k"), ("passed", "pass@k"))):
            rows.append(
                (
                    Cell(model if index == 0 else ""),
                    Cell(label),
                    *(Cell(percent(one[key][ks.index(k)])) for k in chosen),
                )
            )
        breaks.add(len(rows) - 1)
    note = f"In{NBSP}%, mean of the suites. maj@1 is one sampled answer; greedy accuracies stand above."
    return Table(
        "Accuracy by number of samples",
        ("model", "measure", *(f"k = {k}" for k in chosen)),
        tuple(rows),
        2,
        (note,),
        frozenset(breaks),
    )


def flips(results: Results) -> Table | None:
    """How many greedy answers changed sides against the base, by suite."""
    found = results["flips"]
    rows = [
        (
            Cell(suite if index == 0 else ""),
            Cell(model),
            Cell(number(one[suite]["items"])),
            Cell(number(len(one[suite]["lost"]))),
            Cell(number(len(one[suite]["gained"]))),
            Cell(f"{len(one[suite]['gained']) - len(one[suite]['lost']):+d}".replace("-", MINUS)),
        )
        for suite in results["suites"]
        for index, (model, one) in enumerate(found.items())
        if suite in one
    ]
    if not rows:
        return None
    columns = ("suite", "model", "items", "right \u2192 wrong", "wrong \u2192 right", "net")
    return Table(
        "Greedy answers that changed sides", columns, tuple(rows), 2, ("Against the base, item by item.",)
    )
