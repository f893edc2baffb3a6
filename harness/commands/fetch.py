"""`vzero-harness fetch`: benchmarks brought here and pinned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from harness.commands import options
from harness.runs.signals import interruptible


def fetch(
    suites: options.Suites,
    data: Annotated[
        Path, Option("--data", metavar="PATH", help="Folder to put them in; give it to `evaluate`.")
    ] = Path("runs/data"),
    source: Annotated[
        Path | None,
        Option("--from", metavar="PATH", help="A local copy: an authors' repository or a `datasets` folder."),
    ] = None,
    revision: Annotated[
        str | None, Option("--revision", help="Of the dataset on the hub; default: the newest, then pinned.")
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
        from harness.evals.set_aside import SetAside, told
        from harness.tables.terminal import say

        terminal, done = options.console(json), []
        for suite in choose(suites):
            found = bring(suite, data, source, revision, lambda text: say(text, terminal))
            done.append(asdict(found))
            say(
                f"{found.suite}: {found.state}, {found.rows} rows ({found.with_gold} with gold; "
                f"{found.rows_expected} rows are expected), sha256 {found.sha256[:16]}",
                terminal,
            )
            if found.set_aside:
                aside = [SetAside.model_validate(one) for one in found.set_aside]
                say(f"{found.suite}: {told(aside)}", terminal, "yellow")
        if json:
            options.out_json(done)
