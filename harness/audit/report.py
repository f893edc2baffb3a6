"""The audit as tables in the terminal and as JSON: pure functions of an `Audit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.audit.players import INTUITION, PLAYERS, SOLVERS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.audit import Audit, Damage, Exploit, Row

FORMAT = 1


def as_json(audit: Audit, defects: Sequence[Damage] = (), notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything measured, rounded to six digits; shares and rewards as fractions. `notes` say what was asked
    for and not audited."""
    return {
        "format": FORMAT,
        "votes": audit.votes,
        "rewards": [
            {
                "name": r.name,
                "formula": r.formula,
                "source": r.source,
                "intended": _six(audit.intended[r.name]),
            }
            for r in audit.rules
        ],
        "questioners": [{"name": player.name, "does": player.says} for player in PLAYERS],
        "solvers": [asdict(solver) for solver in SOLVERS],
        "intuition_right": dict(INTUITION),
        "rows": [
            {**{key: _six(value) for key, value in asdict(row).items()}, "exact": row.draws is None}
            for row in audit.rows
        ],
        "exploits": [
            {**{key: _six(value) for key, value in asdict(one).items()}, "beats_intended": one.beats_intended}
            for one in audit.exploits
        ],
        "findings": list(findings(audit)),
        "defects": [{key.rstrip("_"): _six(value) for key, value in asdict(one).items()} for one in defects],
        "notes": list(notes),
    }


def _six(value: Any) -> Any:
    return round(value, 6) + 0.0 if isinstance(value, float) else value


def findings(audit: Audit) -> Iterator[str]:
    """One sentence for each exploit of each reward, over the Solvers it works with; one for a reward without
    any."""
    for rules in audit.rules:
        mine = [one for one in audit.exploits if one.rules == rules.name]
        if not mine:
            yield f"{rules.name}: none of the scripted tricks earns more than honest hard questions while leaving less to learn from."
        for _, group in groupby(sorted(mine, key=lambda one: one.player), key=lambda one: one.player):
            yield _sentence(rules.name, list(group))


def _sentence(name: str, group: list[Exploit]) -> str:
    beats = [one for one in group if one.beats_intended]
    shown = beats or group
    against = (
        f"more than the intended {shown[0].intended:.2f}"
        if beats
        else f"more than honest hard questions ({_span([e.honest for e in shown])})"
    )
    if all(one.earns <= one.honest for one in shown):  # listed because a broken reply was read at all
        against = "though it should count as invalid"
    solvers = ", ".join(one.solver for one in shown)
    kept = _span([100 * one.kept for one in shown], 0)
    usable = _span([100 * one.usable for one in shown], 0)
    honest = _span([100 * one.honest_usable for one in shown], 0)
    return (
        f"{name}: {shown[0].trick} earns {_span([one.earns for one in shown])}, {against} (Solver: {solvers}); "
        f"the filter keeps {kept} %, {usable} % are kept and labelled right (honest: {honest} %)."
    )


def _span(values: list[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def show_defects(defects: Sequence[Damage], console: Console) -> None:
    """A row for each known defect: the number it spoils, without and with it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text("Known defects of public code", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("defect", no_wrap=True)
    table.add_column("what is wrong")
    table.add_column("measured on")
    table.add_column("without", justify="right", no_wrap=True)
    table.add_column("with", justify="right", no_wrap=True)
    for one in defects:
        table.add_row(
            one.name,
            Text(one.says),
            Text(one.measure),
            f"{one.without:.3f}",
            Text(f"{one.with_:.3f}", style="red"),
        )
    console.print(table)


def show_notes(notes: Sequence[str], console: Console) -> None:
    """What was asked for and not audited, and why."""
    for note in notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def show(audit: Audit, console: Console) -> None:
    """A table for each reward, then the exploits by name."""
    from rich.text import Text

    for rules in audit.rules:
        console.print(_table(audit, rules.name, rules.formula))
    console.print(Text(_legend(audit), style="dim"))
    console.print(Text("Findings", style="bold"))
    tricked = {one.rules for one in audit.exploits}
    for sentence in findings(audit):
        console.print(
            Text(f"- {sentence}", style="red" if sentence.split(":")[0] in tricked else "green"),
            soft_wrap=not console.is_terminal,
        )


def _table(audit: Audit, name: str, formula: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{name}: {formula}", style="bold")
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for column in ("Solver", "Questioner"):
        table.add_column(column, no_wrap=True)
    for column in ("reward", "valid\n%", "mean\nc", "kept\n%", "label\nright %", "usable\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    tricked = {(one.solver, one.player) for one in audit.exploits if one.rules == name}
    for solver, rows in groupby([row for row in audit.rows if row.rules == name], key=lambda row: row.solver):
        for index, row in enumerate(list(rows)):
            style = "red" if (row.solver, row.player) in tricked else ""
            table.add_row(
                *_cells(row, solver if index == 0 else ""),
                style=style,
                end_section=row.player == PLAYERS[-1].name,
            )
    return table


def _cells(row: Row, solver: str) -> list[str]:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}".replace("100.0", "100")

    reward = f"{row.reward:.3f}" if row.high is None else f"{row.reward:.3f} ±{row.high - row.reward:.3f}"
    confidence = "-" if row.confidence is None else f"{row.confidence:.2f}"
    return [
        solver,
        row.player,
        reward,
        percent(row.valid),
        confidence,
        percent(row.kept),
        percent(row.label_accuracy),
        percent(row.usable),
    ]


def _legend(audit: Audit) -> str:
    skills = "; ".join(f"{s.name} {100 * s.easy:.0f} / {100 * s.hard:.0f}" for s in SOLVERS)
    drawn = sorted({row.draws for row in audit.rows if row.draws is not None})
    exact = (
        ["Exact: every outcome of the votes is summed."]
        if any(row.draws is None for row in audit.rows)
        else []
    )
    how = " ".join(
        [
            *exact,
            *(
                f"{'With ±' if exact else 'Simulated'}: {draws} replies a row, 95 % intervals."
                for draws in drawn
            ),
        ]
    )
    return (
        f"{audit.votes} votes a question. {how} Solvers, right votes in % on easy / hard questions: {skills}.\n"
        "kept: replies that survive the filter; label right: of the kept, majority is the right option; usable: both. Red: an exploit."
    )
