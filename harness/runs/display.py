"""What the user sees while a run goes on: a live panel on a terminal, elsewhere plain lines that a log can
keep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.runs.progress import Position
from harness.tables.words import duration
from vzero.selfplay import Stage

LINE_EVERY = 10.0  # seconds between two progress lines of a plain display
SIGN_OF_LIFE = 60.0  # seconds after which a stage that did not move is mentioned all the same


class Display:
    """Told by the runner what happens, in order: a line for each start and end, and at most one line of
    progress every ten seconds."""

    def __init__(self, stages: Sequence[Stage], console: Console) -> None:
        self.stages, self.console, self.number, self.printed = stages, console, 0, 0.0
        self.position: Position | None = None

    def reused(self, stage: Stage, seconds: float) -> None:
        """`stage` was finished by an earlier call, in `seconds`."""
        self._next(stage, f"already done ({duration(seconds)})")

    def note(self, stage: Stage, text: str) -> None:
        """Something the user should know about `stage`: it is done again, or waits for others."""
        self._print(f"{stage.name}: {text}")

    def started(self, stage: Stage, attempt: int) -> None:
        """`stage` begins, for the `attempt`-th time."""
        self._next(stage, "started" if attempt == 1 else f"resumed (attempt {attempt})")
        self.printed = time.monotonic()

    def moved(self, stage: Stage, position: Position | None) -> None:
        """Called several times a second while `stage` runs."""
        silent = time.monotonic() - self.printed
        if position is not None and silent >= (SIGN_OF_LIFE if position == self.position else LINE_EVERY):
            self.printed, self.position = time.monotonic(), position
            self._print(f"        {stage.name} {describe(position)}")

    def ended(self, stage: Stage, seconds: float, facts: Mapping[str, object]) -> None:
        """`stage` is finished."""
        found = summary(facts)
        self._print(f"        {stage.name} done in {duration(seconds)}{': ' if found else ''}{found}")

    def _next(self, stage: Stage, what: str) -> None:
        self.number += 1
        self._print(f"[{self.number}/{len(self.stages)}] {stage.name} {what}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Row:
    mark: str
    note: str
    seconds: float | None = None
    done: bool = False


class Panel(Display):
    """The same on a terminal: all stages with their state, and a bar for the one that runs."""

    def __init__(self, stages: Sequence[Stage], console: Console) -> None:
        super().__init__(stages, console)
        self.rows = {stage.name: _Row("[dim]·[/]", "") for stage in stages}
        self.begin = self.stage_begin = time.monotonic()
        self.current: Stage | None = None
        self.live: Live | None = None

    def reused(self, stage: Stage, seconds: float) -> None:
        self._set(stage, _Row("[green]✓[/]", "[dim]done earlier[/]", seconds, done=True))

    def note(self, stage: Stage, text: str) -> None:
        self._set(stage, _Row("[yellow]![/]", f"[yellow]{escape(text)}[/]"))

    def started(self, stage: Stage, attempt: int) -> None:
        self.current, self.position, self.stage_begin = stage, None, time.monotonic()
        self._set(stage, _Row("[cyan]▶[/]", "starting" if attempt == 1 else f"resuming (attempt {attempt})"))

    def moved(self, stage: Stage, position: Position | None) -> None:
        self.position = position
        row = self.rows[stage.name]
        if position is not None:
            row.note = escape(describe(position))
        row.seconds = time.monotonic() - self.stage_begin
        self._refresh()

    def ended(self, stage: Stage, seconds: float, facts: Mapping[str, object]) -> None:
        self.current = None
        self._set(stage, _Row("[green]✓[/]", f"[dim]{escape(summary(facts))}[/]", seconds, done=True))

    def render(self) -> RenderableType:
        """The panel as it stands."""
        table = Table.grid(padding=(0, 2))
        for stage in self.stages:
            row = self.rows[stage.name]
            table.add_row(
                row.mark, stage.name, "" if row.seconds is None else duration(row.seconds), row.note
            )
        count, done = len(self.stages), sum(row.done for row in self.rows.values())
        share = self.position.done / max(1, self.position.total) if self.position and self.current else 0.0
        spent = duration(time.monotonic() - self.begin)
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=count, completed=done + share, width=40),
            Text(f"stage {min(done + 1, count)} of {count}, {spent}{self._left()}"),
        )
        return Group(table, line)

    def _left(self) -> str:
        """Time left in the whole run, once every kind of stage that is left was measured in it."""
        if self.current is None or self.position is None or self.position.eta is None:
            return ""
        rows = [(stage, self.rows[stage.name]) for stage in self.stages]
        known = {stage.kind: row.seconds or 0.0 for stage, row in rows if row.done}
        waiting = [stage.kind for stage, row in rows if not row.done and stage != self.current]
        if not all(kind in known for kind in waiting):
            return ""
        return f", about {duration(self.position.eta + sum(known[kind] for kind in waiting))} left"

    def _set(self, stage: Stage, row: _Row) -> None:
        self.rows[stage.name] = row
        self._refresh()

    def _refresh(self) -> None:
        if self.live is not None:
            self.live.refresh()


@contextmanager
def shown(stages: Sequence[Stage], console: Console, plain: bool) -> Iterator[Display]:
    """The display that fits `console`, taken down at the end."""
    if plain or not console.is_terminal:
        yield Display(stages, console)
        return
    panel = Panel(stages, console)
    with Live(console=console, auto_refresh=False, get_renderable=panel.render) as live:
        panel.live = live
        yield panel


def describe(position: Position) -> str:
    """One line: step of total, the stage's own measures, time left."""
    parts = [f"{position.done}/{position.total} {position.unit}"]
    for name, value in position.metrics.items():
        parts.append(f"{name.replace('_per_second', '/s').replace('_', ' ')} {value:.4g}")
    if position.eta is not None:
        parts.append(f"{duration(position.eta)} left")
    return ", ".join(parts)


def summary(facts: Mapping[str, object]) -> str:
    """The numbers among a stage's facts, and its note: "images 96, skipped 3; 3 broken (...)"."""
    numbers = [
        f"{key.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in facts.items()
        if isinstance(value, int | float) and not key.endswith("seconds")
    ]
    return "; ".join([", ".join(numbers[:6]), *([str(facts["note"])] if "note" in facts else [])])
