"""`vzero-harness fetch`: real benchmarks brought here and pinned."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from harness.commands import options
from harness.runs.signals import interruptible


def fetch(
    suites: Annotated[
        str,
        typer.Option(
            "--suites", help="Suites or groups (math, logic, vision, all), with commas between them."
        ),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="PATH", help="Folder to put them in; give it to `evaluate`.")
    ] = Path("runs/data"),
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="A local copy instead of the hub: an authors' repository or a `datasets` folder.",
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Of the dataset on the hub; default: the newest, which is pinned."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Fetch suites, decode every picture once, and pin each row by its digest. Afterwards `evaluate` needs no
    hub.

    Example: vzero-harness fetch --suites math,vision --data runs/data
    """
    with interruptible():
        from harness.evals.catalogue import choose
        from harness.evals.fetch import fetch as bring

        terminal = options.console(json)
        say = lambda text: terminal.print(text, markup=False, highlight=False, soft_wrap=True)  # noqa: E731
        done = []
        for suite in choose([suites]):
            done.append(bring(suite, data, source, revision, say))
            told = done[-1]
            gold = f"{told['with_gold']} with gold; {told['rows_expected']} rows are expected"
            say(
                f"{told['suite']}: {told['state']}, {told['rows']} rows ({gold}), sha256 {told['sha256'][:16]}"
            )
        if json:
            print(json_format.dumps(done, indent=2))
