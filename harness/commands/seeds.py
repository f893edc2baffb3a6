"""`vzero-harness seeds`: finished runs that differ only in their seed, as one result."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from harness.commands import options


def seeds(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Finished runs that differ only in their seed.")
    ],
    json: options.Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write seeds.json and seeds.md into.")
    ] = None,
) -> None:
    """Sum up finished runs that differ only in their seed: gains by seed and over seeds.

    Example: vzero-harness seeds runs/seed-0 runs/seed-1 runs/seed-2 --out runs/seeds
    """
    from harness.analysis.seeds import summarise
    from harness.report import seeds as report
    from harness.report.terminal import show_paths

    summary, terminal = summarise(runs), options.console(json)
    if json:
        print(dumps(summary, indent=2))
    else:
        report.show(summary, terminal)
    if out is not None:
        show_paths(report.write(summary, out), terminal)
