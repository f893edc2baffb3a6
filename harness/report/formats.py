"""A comparison in every format `vzero-harness table` offers."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.comparison import Comparison
from harness.claims.verdict import Verdict
from harness.report import arms, claims, frontier
from harness.tables import csv, latex, markdown
from harness.tables.table import Cell, Table, Value, texts
from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts

if TYPE_CHECKING:
    from rich.console import Console

SHEET = (
    *("kind", "row", "arm", "checkpoint", "model", "seeds", "suite", "metric", "value", "low", "high", "n"),
    *("expected", "gain", "gain_low", "gain_high", "p", "p_corrected", "direction", "detectable"),
    *("unparsed", "truncated", "compute", "total_compute", "source"),
)


def render(
    comparison: Comparison,
    name: str,
    folders: Sequence[Path] = (),
    others: Sequence[Comparison] = (),
) -> str:
    """The text of one format: "md", "latex", "csv", "json", "html", or "svg", the frontier alone. `folders`
    are the runs', for curves on the page, `others` the same runs by other measures.

    Raises:
        InputError: a picture of runs whose total compute is not known.
    """
    if name == "json":
        return json.dumps(comparison.model_dump(mode="json"), indent=2) + "\n"
    if name == "csv":
        return csv.render(sheet(comparison))
    if name == "html":
        from harness.report import page

        return page.render(comparison, folders, others)
    if name == "svg":
        panels = [chart for one in (comparison, *others) if (chart := frontier.panel(one))]
        if not panels:
            raise InputError(
                "The frontier needs two arms or more whose total compute is recorded, and gains over base."
            )
        return frontier.picture(panels)
    if name == "latex":  # for a paper: only what was run
        run = [one for one in comparison.claims if one.verdict != Verdict.NOT_RUN]
        found = (arms.table(comparison.model_copy(update={"published": []})), claims.table(run))
        return "\n".join(latex.render(one) for one in found if one.rows)
    tables = (arms.table(comparison), claims.table(comparison.claims))
    return "\n\n".join(map(markdown.render, tables)) + "\n"


def write(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        artefacts.write_text(path, text)
    except OSError as error:
        if error.errno != errno.EROFS and (failure := machine_failure(error, path)):
            raise failure from None
        raise InputError(f"Cannot write {path}: {error.strerror}; choose another --out.") from None


def show(comparison: Comparison, console: Console) -> None:
    """The table in the terminal, then the claims that were measured."""
    from harness.tables import terminal

    terminal.show(arms.table(comparison), console)
    run = [one for one in comparison.claims if one.measured]
    for one in run:
        terminal.say(f"{one.statement}: {one.sentence}", console, "bold")
    unrun = len(comparison.claims) - len(run)
    terminal.say(f"{unrun} published claims were not run (--format md says why).", console, "dim")


def sheet(comparison: Comparison) -> Table:
    """A row per number, for spreadsheets."""
    rows = [[Cell("", line.get(name)) for name in SHEET] for line in _lines(comparison)]
    return Table("Numbers", texts(*SHEET), [rows])


def _lines(comparison: Comparison) -> Iterator[Mapping[str, Value]]:
    for row in comparison.rows:
        common = row.model_dump(include={"arm", "checkpoint", "model"}) | {
            "kind": "measured",
            "row": row.name,
            "seeds": " ".join(map(str, row.seeds)),
            "metric": comparison.metric,
            "unparsed": row.fault("unparsed", comparison.metric),
            "truncated": row.fault("truncated", comparison.metric),
            "compute": row.compute_note,
            "total_compute": row.compute_ratio,
        }
        for suite, score in row.scores.items():
            if score is not None:
                gain = score.gain.model_dump() if score.gain else {}
                bounds = {"gain_low": gain.pop("low", None), "gain_high": gain.pop("high", None)}
                # The level last: its n is of the items scored, the gain's of those that could be paired.
                yield common | {"suite": suite} | gain | bounds | score.model_dump(exclude={"gain"})
    for printed in comparison.published:
        common = printed.model_dump(include={"kind", "model", "source"}) | {"row": printed.name}
        for suite, numbers in printed.numbers.items():
            for one in numbers:
                yield common | {"suite": suite} | one.model_dump(include={"metric", "value", "n"})
