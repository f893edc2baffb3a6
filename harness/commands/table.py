"""`vzero-harness table`: arms, checkpoints, seeds and published numbers beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from harness.commands import options
from vzero.errors import InputError

Format = Annotated[
    Literal["rich", "md", "latex", "csv", "json", "html", "svg"],
    Option("--format", help="How to write it; svg is the picture of gain by total compute."),
]


def table(
    runs: Annotated[
        list[Path], Argument(metavar="RUN...", help="Runs, evaluations, or folders with runs below them.")
    ],
    against: Annotated[
        str, Option("--against", help="What gains are over: base, an arm, or another run's folder.")
    ] = "base",
    metric: Annotated[
        str | None, Option("--metric", help="greedy, T=1, maj@10 or pass@10; default: the runs' first.")
    ] = None,
    format_: Format = "rich",
    out: Annotated[
        Path | None, Option("--out", help="Write it into this file instead of on the terminal.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare arms and checkpoints by suite: gain, interval, corrected p, unreadable answers. No model is
    loaded.

    Example: vzero-harness table runs/grid --against frozen-questioner --format latex
    """
    chosen = "json" if json else format_
    with options.working("Comparing the runs"):
        from harness.analysis.comparison import beside, compare
        from harness.analysis.load import load
        from harness.report import formats

        reference = load([Path(against)]) if against != "base" and Path(against).exists() else []
        given = {run.folder for run in reference}
        found = [run for run in load(runs) if run.folder not in given]
        if not found:
            raise InputError("The only run is the one to compare with; give another one.")
        comparison = compare(found, "base" if reference else against, metric, reference)
    if chosen == "rich" and out is None:
        formats.show(comparison, options.console(False))
        return
    if chosen == "rich":
        raise InputError(
            "The format rich is for the terminal; choose --format md, latex, csv, json or html for a file."
        )
    pages, others = ("html", "svg"), []
    if chosen in pages:
        others = beside(comparison, found, "base" if reference else against, reference)
    text = formats.render(comparison, chosen, [run.folder for run in (*found, *reference)], others)
    if out is None:
        options.out(text, keep="\r\n\t", end="")  # of CSV, say; what is in its cells is guarded
    else:
        formats.write(text, out)
