"""Reports: pure renderers over one results object.

    finish(run)                  results.json, report.md, report.html, and the ledger entries behind them
    print_summary(run, console)  the same results as tables in the terminal

`words` says how numbers and findings are written, `tables` holds the tables as data, `charts` draws,
`collect` gathers what is shown beside the results; `terminal`, `markdown` and `html` only render.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

RESULTS, MARKDOWN, HTML = "results.json", "report.md", "report.html"


@dataclass(frozen=True)
class Finished:
    """The results object and the files written, by name."""

    results: Mapping[str, Any]
    paths: Mapping[str, Path]


def finish(run: Path) -> Finished:
    """Write the report of `run` as it stands, finished or not. The caller holds the run's lock.

    Raises:
        InputError: `run` is no run directory, or a sealed file in it was changed.
    """
    from harness.analysis.record import record
    from harness.analysis.results import build
    from harness.report import html, markdown
    from harness.report.collect import collect
    from harness.runs.sealed import read_run
    from vzero.runtime import artefacts

    found = read_run(run)
    results = build(found)
    material = collect(found)
    record(found, results)
    artefacts.write_json(run / RESULTS, results)
    artefacts.write_text(run / MARKDOWN, markdown.render(results, material))
    artefacts.write_text(run / HTML, html.render(results, material))
    return Finished(results, {name: run / name for name in (HTML, MARKDOWN, RESULTS)})


def print_summary(run: Path, console: Console) -> None:
    """Print what `finish` wrote: findings, tables, paths.

    Raises:
        InputError: there is no results.json yet.
    """
    from harness.report import terminal
    from vzero.errors import InputError
    from vzero.runtime import artefacts

    try:
        results = artefacts.read_json(run / RESULTS)
    except FileNotFoundError:
        raise InputError(f"{run} has no {RESULTS} yet; run the experiment first.") from None
    terminal.show(results, console)
    terminal.show_paths([run / name for name in (HTML, MARKDOWN, RESULTS)], console)
