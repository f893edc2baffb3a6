"""`vzero-harness doctor`: is this machine able to do it, and if not, what to do."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import options
from vzero.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.doctor import Finding
    from vzero.config import Preset

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def doctor(
    preset: options.PresetName = "pocket",
    out: Annotated[Path, typer.Option("--out", help="Where the run would write.")] = Path("runs"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what takes no time: no torch, no GPU query, no network.")
    ] = False,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Look for what would stop a run on this machine, and say how to mend it. Changes nothing; exit code 1 if
    something fails.

    Example: vzero-harness doctor --preset qwen2.5-vl-3b
    """
    from harness.doctor import diagnose, gather, needs_of
    from vzero.presets import load_preset

    wanted = load_preset(preset, set_ or [])
    findings = [*diagnose(gather(quick, wanted.model, out), needs_of(wanted)), *_benchmarks(wanted)]
    failed = any(finding.level == "fail" for finding in findings)
    if json:
        print(dumps(_as_json(findings, quick), indent=2))
    else:
        _show(findings, options.console(json))
    raise typer.Exit(1 if failed else 0)


def _benchmarks(preset: Preset) -> list[Finding]:
    from harness.doctor import Finding
    from harness.doctor.checks import benchmarks
    from harness.evals.benchmarks import named
    from harness.evals.rows import absent

    try:
        suites, place = named(preset.evaluation), preset.evaluation.data
    except InputError as error:
        return [Finding("benchmarks", "fail", "cannot be asked for like this", str(error))]
    finding = benchmarks(place, len(suites), tuple(absent(suites, Path(place).expanduser())))
    return [] if finding is None else [finding]


def _as_json(findings: list[Finding], quick: bool) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "healthy": not any(one.level == "fail" for one in findings),
        "quick": quick,
        "checks": [asdict(one) for one in findings],
    }


def _show(findings: list[Finding], terminal: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        mark, style = _MARKS[finding.level]
        told = Text("".join(c if c.isprintable() else "?" for c in finding.found))
        if finding.mend:
            told.append(f"\n{finding.mend}", style="italic")
        table.add_row(Text(mark, style=style), Text(finding.name), told)
    terminal.print(table)
    worst = [sum(one.level == level for one in findings) for level in ("fail", "warn")]
    terminal.print(
        f"\n{worst[0]} to mend, {worst[1]} to know of, {len(findings) - sum(worst)} in order", highlight=False
    )
