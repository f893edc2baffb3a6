"""`vzero-harness check`: did training still do what it says? For continuous integration."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import options
from harness.commands.running import Runner
from harness.runs.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "smoke" / "reference.json"


def check(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="A finished run; default: run the preset smoke now."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Reference to compare with; default: results/smoke.")
    ] = None,
    no_reference: Annotated[
        bool, typer.Option("--no-reference", help="Compare with nothing; the exact rules alone.")
    ] = False,
    write_reference: Annotated[
        Path | None, typer.Option("--write-reference", help="Make this file from the run, if it passes.")
    ] = None,
    out: options.Out = None,
    plain: options.Plain = False,
    json: options.Json = False,
) -> None:
    """Recompute rewards, votes and advantages from what a run recorded, see that its weights learnt, compare
    it with a reference run.

    Exit code 1, with the reasons, when training silently broke.

    Example: vzero-harness check runs/smoke --json
    """
    from harness.check import check as hold
    from harness.check.run import make_reference, read_reference
    from vzero.errors import VZeroError
    from vzero.runtime import artefacts

    terminal = options.console(json)
    with interruptible():
        beside = None if no_reference or write_reference else read_reference(reference or REFERENCE)
        folder = run if run is not None else _smoke(out or Path("runs/check"), plain, terminal)
        found = hold(folder, beside)
    if json:
        print(dumps(found, indent=2))
    else:
        _show(found, terminal)
    if not found["passed"]:
        broken = list(dict.fromkeys(one["rule"] for one in found["findings"] if one["passed"] is False))
        raise VZeroError(f"{folder} breaks {len(broken)} of the rules: {', '.join(broken)}.")
    if write_reference is not None:
        artefacts.write_json(write_reference, make_reference(folder))
        terminal.print(str(write_reference), markup=False, soft_wrap=True)


def _smoke(folder: Path, plain: bool, terminal: Console) -> Path:
    """The preset smoke, run to its end; the same folder is resumed or, when finished, looked at again."""
    from vzero.presets import load_preset
    from vzero.selfplay import plan

    preset = load_preset("smoke")
    with Runner("check", terminal, plain).finished(preset, folder, plan(preset)):
        pass
    return folder


def _show(found: dict[str, Any], terminal: Console) -> None:
    from rich.text import Text

    from harness.tables.text import visible

    marks = {True: ("ok  ", "green"), False: ("FAIL", "bold red"), None: ("  - ", "dim")}
    for one in found["findings"]:
        mark, style = marks[one["passed"]]
        where = f" [{one['stage']}]" if one["stage"] else ""
        terminal.print(
            Text(mark, style=style) + Text(f" {one['rule']}{where}: {visible(one['says'], 2000)}"),
            soft_wrap=True,
        )
    said = "training did what it says" if found["passed"] else f"{found['failed']} findings against this run"
    terminal.print(
        Text(f"{said}; {found['not_checked']} rules had nothing to look at", style="bold"), soft_wrap=True
    )
