"""Reports: pure views of one results object.

    finish(run)                  results.json, report.md and report.html
    print_summary(run, console)  the same results in the terminal

`held_out`, `training`, `claims` and `arms` make tables, `findings` makes sentences, `charts` draws,
`material` gathers the rest; `sections`, `markdown`, `html` and `formats` put them together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.analysis.results import Results

RESULTS, MARKDOWN, HTML = "results.json", "report.md", "report.html"


def finish(run: Path) -> Results:
    """Write the report of `run` as it stands, finished or not; its results. The caller holds the run's lock.

    Raises:
        InputError: `run` is no run directory, or a sealed file in it was changed.
    """
    # Imported here, so that a command that only prints loads no statistics and no pictures.
    from harness.analysis.build import build
    from harness.analysis.results import write_results
    from harness.report import html, markdown
    from harness.report.material import collect
    from harness.runs.sealed import read_run
    from vzero.runtime import artefacts

    found = read_run(run)
    results, material = build(found), collect(found)
    write_results(run / RESULTS, results)
    artefacts.write_text(run / MARKDOWN, markdown.render(results, material))
    artefacts.write_text(run / HTML, html.render(results, material))
    return results


def print_summary(run: Path, console: Console, verbose: bool = False) -> None:
    """Print what `finish` wrote: verdict, gain, alarms, the report's path, the next command; with `verbose`
    the findings and the main tables before these.

    Raises:
        InputError: there is no results.json yet.
    """
    from harness.analysis.results import read_results
    from harness.report import ending
    from harness.report.sections import show_summary
    from vzero.errors import InputError

    if not (run / RESULTS).exists():
        raise InputError(f"{run} has no {RESULTS} yet; run the experiment first.")
    results = read_results(run / RESULTS)
    if verbose:
        show_summary(results, console)
    console.print()
    ending.show(results, run / HTML, console)
