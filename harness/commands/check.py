"""`vzero-harness check`: did training still do what it says? For continuous integration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from harness.commands import options
from harness.commands.running import Runner
from harness.runs.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from harness.check.finding import Report

Format = Annotated[
    Literal["text", "json", "github", "junit"],
    Option("--format", help="How to print the findings; github: annotations, and $GITHUB_STEP_SUMMARY."),
]

_OUT = "Where smoke runs; default: runs/check. The same command resumes it."
Out = Annotated[Path | None, Option("--out", parser=options.path_option, metavar="PATH", help=_OUT)]


def check(
    run: Annotated[
        Path | None, Argument(metavar="[RUN]", help="A finished run; default: run the preset smoke now.")
    ] = None,
    reference: Annotated[
        Path | None,
        Option("--reference", help="A reference file; default: the one shipped, of the preset smoke."),
    ] = None,
    no_reference: Annotated[
        bool, Option("--no-reference", help="Compare with nothing; the exact rules alone.")
    ] = False,
    write_reference: Annotated[
        Path | None, Option("--write-reference", help="Make this file from the run, if it passes.")
    ] = None,
    out: Out = None,
    format_: Format = "text",
    plain: options.Plain = False,
    json: options.Json = False,
) -> None:
    """Did training silently break? Recompute rewards, votes and advantages from a run's records. See that its
    weights learnt, and compare it with a reference run.

    Exit code 1, with the reasons, if it did.

    Example: vzero-harness check runs/smoke --format junit
    """
    from vzero.errors import VZeroError
    from vzero.runtime import artefacts

    chosen = "json" if json else format_
    terminal = options.console(chosen != "text")
    with interruptible():
        with options.working("Reading the reference"):
            from harness.check import check as hold
            from harness.check import formats
            from harness.check.run import SMOKE, make_reference, read_reference

            beside = None if no_reference or write_reference else read_reference(reference or SMOKE)
        folder = run if run is not None else _smoke(out or Path("runs/check"), plain, terminal)
        with options.working("Checking the run's records"):
            report = hold(folder, beside)
    if chosen == "text":
        _show(report, terminal)
    else:
        options.out(formats.render(report, chosen))
    if chosen == "github" and (page := os.environ.get("GITHUB_STEP_SUMMARY")):
        formats.append_summary(report, Path(page))
    if not report.passed:
        raise VZeroError(f"{folder} breaks {len(report.broken)} of the rules: {', '.join(report.broken)}.")
    if write_reference is not None:
        artefacts.write_json(write_reference, make_reference(folder).model_dump(mode="json"))
        terminal.print(str(write_reference), markup=False, soft_wrap=True)


def _smoke(folder: Path, plain: bool, terminal: Console) -> Path:
    """The preset smoke, run to its end; the same folder is resumed or, when finished, looked at again."""
    from vzero.presets import load_preset
    from vzero.selfplay import plan

    preset = load_preset("smoke")
    with Runner("check", terminal, plain).finished(preset, folder, plan(preset)):
        pass
    return folder


def _show(report: Report, terminal: Console) -> None:
    from rich.text import Text

    from harness.check.formats import sentence, verdict

    marks = {True: ("ok  ", "green"), False: ("FAIL", "bold red"), None: ("  - ", "dim")}
    for one in report.findings:
        mark, style = marks[one.passed]
        where = f" [{one.stage}]" if one.stage else ""
        terminal.print(Text(mark, style=style) + Text(f" {one.rule}{where}: {sentence(one)}"), soft_wrap=True)
    terminal.print(Text(verdict(report), style="bold"), soft_wrap=True)
