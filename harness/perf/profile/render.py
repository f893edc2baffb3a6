"""The profile as Markdown and as tables in the terminal: pure functions of the object that profile.json
holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.perf.profile.tables import Grid, grids

if TYPE_CHECKING:
    from rich.console import Console


def facts(profile: Mapping[str, Any]) -> list[str]:
    """Sentences beside the tables: the machine, the workload, the log-prob gap."""
    machine, workload, options = profile["machine"], profile["workload"], profile["options"]
    found = [
        f"{machine['device']}, {machine['threads']} threads: {machine['matmul_tflops']:.3g} TFLOP/s {machine['dtype']} and "
        f"{machine['bandwidth_gbs']:.3g} GB/s, measured.",
        f"Model {profile['model']['name']} ({profile['model']['parameters'] / 1e6:.3g} M parameters), {workload['pictures']} pictures, "
        f"{workload['questions']} questions ({workload['questions_written']} of them valid ones of the Questioner), "
        f"{options['repetitions']} repetitions.",
    ]
    for role, gap in profile["logprob_gap"].items():
        if gap.get("tokens"):
            found.append(
                f"Log-probabilities of trainer and rollout, {role}: mean distance {gap['mean']:.2e}, largest {gap['max']:.2e} nats, "
                f"{gap['tokens']} tokens."
            )
    return found


def software(profile: Mapping[str, Any]) -> str:
    """Versions and the commit that was measured."""
    git = profile["provenance"]["git"]
    packages = ", ".join(
        f"{name} {version}" for name, version in profile["provenance"]["packages"].items() if version
    )
    commit = f"; commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    return f"Python {profile['provenance']['python']}, {packages}{commit}."


def markdown(profile: Mapping[str, Any]) -> str:
    """profile.md."""
    parts = [f"# Profile of {plain(profile['preset'])}"]
    for grid in grids(profile):
        parts += [
            "",
            f"## {plain(grid.title)}",
            "",
            _table(grid),
            *(line for note in grid.notes for line in ("", plain(note))),
        ]
    said = [*facts(profile), *(f"Warning: {one}" for one in profile["warnings"]), software(profile)]
    return "\n".join([*parts, "", "## Measured on", "", *(f"- {plain(one)}" for one in said)]) + "\n"


def _table(grid: Grid) -> str:
    lines: list[Sequence[str]] = [
        grid.columns,
        [":--" if index < grid.words else "--:" for index in range(len(grid.columns))],
    ]
    for title, rows in grid.groups:
        lines += [(f"**{plain(title)}**", *("" for _ in grid.columns[1:])), *rows]
    return "\n".join(f"| {' | '.join(plain(cell).replace('|', '/') for cell in line)} |" for line in lines)


def show(profile: Mapping[str, Any], console: Console) -> None:
    """The tables and notes in the terminal; no line of a table is longer than 80 columns, so that none
    wraps."""
    from rich.text import Text

    for grid in grids(profile):
        console.print(_rich(grid))
        for note in grid.notes:
            console.print(Text(plain(note) + "\n", style="dim"), soft_wrap=not console.is_terminal)
    for one in facts(profile):
        console.print(Text(plain(one), style="dim"), soft_wrap=not console.is_terminal)
    for one in profile["warnings"]:
        console.print(Text(f"Warning: {plain(one)}", style="yellow"), soft_wrap=not console.is_terminal)


def _rich(grid: Grid) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(plain(grid.title), style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index, name in enumerate(grid.columns):
        table.add_column(
            Text(plain(name).replace(" ", "\n")),
            justify="left" if index < grid.words else "right",
            no_wrap=True,
        )
    for title, rows in grid.groups:
        table.add_section()
        table.add_row(Text(plain(title), style="bold"))
        for row in rows:
            table.add_row(Text(f"  {plain(row[0])}"), *(Text(plain(cell)) for cell in row[1:]))
    return table


def plain(text: str) -> str:
    """Names come from configuration: nothing in them may reach the terminal as a control sequence."""
    return "".join(c if c.isprintable() else " " for c in text)
