"""The audit as tables and as JSON: pure functions of an `Audit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from harness.audit import Audit
from harness.audit.damage import Damage
from harness.audit.exploits import Exploit
from harness.audit.measure import Row
from harness.audit.players import INTUITION, PLAYERS, SOLVERS
from harness.audit.rules import Rules
from harness.tables.table import Cell, Table, keys, numbers, texts

FORMAT = 1


def as_json(audit: Audit, defects: Sequence[Damage] = (), notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything measured, rounded to six digits; shares and rewards as fractions. `notes` say what was asked
    for and not audited."""
    rewards = [
        {"name": one.name, "formula": one.formula, "source": one.source, "intended": audit.intended[one.name]}
        for one in audit.rules
    ]
    found = {
        "format": FORMAT,
        "votes": audit.votes,
        "rewards": rewards,
        "questioners": [{"name": player.name, "does": player.summary} for player in PLAYERS],
        "solvers": [asdict(solver) for solver in SOLVERS],
        "intuition_right": dict(INTUITION),
        "rows": [{**asdict(row), "exact": row.draws is None} for row in audit.rows],
        "exploits": [{**asdict(one), "beats_intended": one.beats_intended} for one in audit.exploits],
        "findings": list(findings(audit)),
        "defects": [{key.rstrip("_"): value for key, value in asdict(one).items()} for one in defects],
        "notes": list(notes),
    }
    return _rounded(found)


def _rounded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_rounded(value) for value in tree]
    return round(tree, 6) + 0.0 if isinstance(tree, float) else tree


def findings(audit: Audit) -> Iterator[str]:
    """One sentence for each exploit of each reward, over the Solvers it works with; one for a reward without
    any."""
    for rules in audit.rules:
        mine = [one for one in audit.exploits if one.rules == rules.name]
        if not mine:
            yield (
                f"{rules.name}: none of the scripted tricks earns more than honest hard questions while "
                "leaving less to learn from."
            )
        for _, group in groupby(sorted(mine, key=lambda one: one.player), key=lambda one: one.player):
            yield _sentence(rules.name, list(group))


def _sentence(name: str, group: list[Exploit]) -> str:
    beats = [one for one in group if one.beats_intended]
    shown = beats or group
    if all(one.earns <= one.honest for one in shown):  # listed because a broken reply was read at all
        against = "though it should count as invalid"
    elif beats:
        against = f"more than the intended {shown[0].intended:.2f}"
    else:
        against = f"more than honest hard questions ({_span([one.honest for one in shown])})"
    kept, usable, honest = (
        _span([100 * share for share in shares], 0)
        for shares in zip(*((one.kept, one.usable, one.honest_usable) for one in shown), strict=True)
    )
    return (
        f"{name}: {shown[0].trick} earns {_span([one.earns for one in shown])}, {against} "
        f"(Solver: {', '.join(one.solver for one in shown)}); "
        f"the filter keeps {kept} %, {usable} % are kept and labelled right (honest: {honest} %)."
    )


def _span(values: Sequence[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def tables(audit: Audit, defects: Sequence[Damage] = ()) -> list[Table]:
    """A table for each reward, the last one with the legend; then the known defects."""
    found = [_table(audit, one, _legend(audit) if one is audit.rules[-1] else []) for one in audit.rules]
    return [*found, _defects(defects)] if defects else found


def _table(audit: Audit, rules: Rules, notes: Sequence[str]) -> Table:
    tricks = {(one.solver, one.player) for one in audit.exploits if one.rules == rules.name}
    rows = [row for row in audit.rows if row.rules == rules.name]
    return Table(
        f"{rules.name}: {rules.formula}",
        (
            *keys("Solver", "Questioner"),
            *numbers("reward"),
            *numbers("valid", unit="%"),
            *numbers("mean c"),
            *numbers("kept", "label right", "usable", unit="%"),
        ),
        [
            [_cells(row, (row.solver, row.player) in tricks) for row in group]
            for _, group in groupby(rows, key=lambda row: row.solver)
        ],
        notes,
    )


def _cells(row: Row, trick: bool) -> tuple[Cell, ...]:
    interval = [] if row.high is None else [f"±{row.high - row.reward:.3f}"]
    return (
        Cell.of(row.solver),
        Cell.of(row.player, tone="bad" if trick else ""),
        Cell.number(row.reward, *interval, tone="bad" if trick else ""),
        Cell.percent(row.valid),
        Cell.number(row.confidence, digits=2),
        Cell.percent(row.kept),
        Cell.percent(row.label_accuracy),
        Cell.percent(row.usable),
    )


def _legend(audit: Audit) -> list[str]:
    skills = "; ".join(f"{s.name} {100 * s.easy:.0f} / {100 * s.hard:.0f}" for s in SOLVERS)
    exact = (
        ["Exact: every outcome of the votes is summed."] if any(not row.draws for row in audit.rows) else []
    )
    drawn = [
        f"With ±: {draws} simulated replies a row, 95 % intervals."
        for draws in sorted({row.draws for row in audit.rows if row.draws})
    ]
    return [
        " ".join([f"{audit.votes} votes per question.", *exact, *drawn]),
        f"Solvers, right votes in % on easy / hard questions: {skills}.",
        "Kept: replies that survive the filter; label right: of the kept, the label is the right option; "
        "usable: both. Red: an exploit.",
    ]


def _defects(defects: Sequence[Damage]) -> Table:
    """A row for each known defect: the number it spoils, without and with it."""
    rows = [
        (
            Cell.of(one.name),
            Cell.of(one.summary),
            Cell.of(one.measure),
            Cell.number(one.without),
            Cell.number(one.with_, tone="bad"),
        )
        for one in defects
    ]
    columns = (*keys("defect"), *texts("what is wrong", "measured on"), *numbers("without", "with"))
    return Table("Known defects of public code", columns, [rows])
