"""Reports: pure renderers over one results object.

    finish(run)                  results.json, report.md, report.html,
    print_summary(run, console)  the same results as tables in the terminal

`words` says how numbers and findings are written, `tables` holds the tables as data, `charts` draws,
`collect` gathers what is shown beside the results; `terminal`, `markdown` and `html` only render.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.analysis.results import Results

RESULTS, MARKDOWN, HTML = "results.json", "report.md", "report.html"


@dataclass(frozen=True)
class Finished:
    """The results object and the files written, by name."""

    results: Results
    paths: Mapping[str, Path]


def finish(run: Path) -> Finished:
    """Write the report of `run` as it stands, finished or not. The caller holds the run's lock.

    Raises:
        InputError: `run` is no run directory, or a sealed file in it was changed.
    """
    from harness.analysis.build import build
    from harness.analysis.results import write_results
    from harness.report import html, markdown
    from harness.report.before import as_before
    from harness.report.collect import collect
    from harness.runs.sealed import read_run
    from vzero.runtime import artefacts

    found = read_run(run)
    results = build(found)
    before, material = as_before(results), collect(found)
    write_results(run / RESULTS, results)
    artefacts.write_text(run / MARKDOWN, markdown.render(before, material))
    artefacts.write_text(run / HTML, html.render(before, material))
    return Finished(results, {name: run / name for name in (HTML, MARKDOWN, RESULTS)})


def print_summary(run: Path, console: Console) -> None:
    """Print what `finish` wrote: findings, tables, paths.

    Raises:
        InputError: there is no results.json yet.
    """
    from harness.analysis.results import read_results
    from harness.report import terminal
    from harness.report.before import as_before
    from vzero.errors import InputError

    if not (run / RESULTS).exists():
        raise InputError(f"{run} has no {RESULTS} yet; run the experiment first.")
    terminal.show(as_before(read_results(run / RESULTS)), console)
    terminal.show_paths([run / name for name in (HTML, MARKDOWN, RESULTS)], console)
