"""What the user sees while a run goes on: a live panel on a terminal, elsewhere plain lines that a log can
keep. A stage is one line, cut and never wrapped where the terminal is narrow."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.runs.forecast import Forecast, Running
from harness.runs.progress import Position
from harness.runs.signals import held_back
from harness.tables.text import one_line
from harness.tables.words import MISSING, counted, duration, number, roughly, speed
from vzero.config import Preset
from vzero.errors import InterruptedRun
from vzero.selfplay import Stage

LINE_EVERY = 30.0  # seconds between two progress lines of a plain display
SIGN_OF_LIFE = 120.0  # seconds after which a stage that did not move is mentioned all the same
LONGEST_TIME = 11  # "12 min 05 s"
BAR = 20  # characters
# What is said of a finished stage: each sentence where the stage has that fact.
SAID = {
    "images": (("images", "{images} images"), ("skipped", "{skipped} skipped")),
    "evaluate": (("answers", "{answers} answers"), ("kept_answers", "{kept_answers} from before")),
    "train": (("prompts_used", "{prompts_used} prompts"), ("steps", "{steps} steps")),
    "write-questions": (("questions", "{questions} questions"), ("valid", "{valid} valid")),
    "label": (("valid", "{kept} of {valid} questions kept"),),
    "recycle": (("recycled", "{recycled} questions recycled"), ("kept", "{kept} kept")),
    "check-options": (("checked", "{answerable} of {checked} questions answerable"),),
    "choose-images": (("images", "{images} images"),),
}
SAID |= {"probe": SAID["evaluate"], "select": SAID["label"]}
SAID |= {"train-questioner": SAID["train"], "train-solver": SAID["train"]}


@dataclass(frozen=True)
class Plan:
    """The stages of a run, and the forecast that they enter; `name` and `title` where it is one of several
    runs."""

    preset: Preset
    stages: Sequence[Stage]
    forecast: Forecast
    name: str = ""
    title: str = ""


@dataclass
class _Running:
    """A stage that is alive: when it began and was last printed, how far it is and was said to be."""

    begin: float
    printed: float
    position: Position | None = None
    told: Position | None = None


class Display:
    """Told by the runner what happens, in order: a line for each start and end, and a line of progress every
    half minute."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.stages, self.console, self.forecast = plan.stages, console, plan.forecast
        self.keys = plan.forecast.add(plan.name, plan.preset, plan.stages)
        self.name, self.title = plan.name, plan.title
        self.running: dict[str, _Running] = {}
        self.broken = False  # a stage failed

    def reused(self, stage: Stage, facts: Mapping[str, object]) -> None:
        """`stage` was finished by an earlier call, with these facts."""
        taken = self._learn(stage, facts.get("seconds"), facts)
        self._print(f"{self._count(stage.name)} already done ({duration(taken)})")

    def note(self, stage: Stage, text: str) -> None:
        """Something the user should know about `stage`: it is done again, or waits for others."""
        self._print(f"{stage.name}: {text}")

    def started(self, stage: Stage, attempt: int) -> None:
        """`stage` begins, for the `attempt`-th time."""
        self._begin(stage)
        what = "started" if attempt == 1 else f"resumed (attempt {attempt})"
        self._print(f"{self._count(stage.name)} {what}")

    def moved(self, stage: Stage, position: Position | None) -> None:
        """Called several times a second while `stage` runs."""
        now = self.running[stage.name]
        silent, now.position = time.monotonic() - now.printed, position
        if position is not None and silent >= (SIGN_OF_LIFE if position == now.told else LINE_EVERY):
            now.printed, now.told = time.monotonic(), position
            left, every = self.left()
            said = f"{left} ({every})" if every else left
            self._print(f"{self._count(stage.name)} {describe(position)}{said}")

    def ended(self, stage: Stage, seconds: float, facts: Mapping[str, object]) -> None:
        """`stage` is finished."""
        self._learn(stage, seconds, facts)
        what = f"done in {duration(seconds)}: {summary(stage.kind, facts)}"
        self._print(f"{self._count(stage.name)} {what}")

    def failed(self, name: str, error: BaseException, others: Sequence[str]) -> None:
        """The stage `name` failed; the run ends when `others` have. What ends the run is said elsewhere."""
        del self.running[name]
        if others or self.broken:
            awaiting = f"; awaiting {' and '.join(others)}" if others else f": {error}"
            self._print(f"{self._count(name)} failed{awaiting}")
        self.broken = True

    def stopped(self, error: BaseException) -> None:
        """The run ends here; what the user reads of it is said elsewhere."""

    def left(self) -> tuple[str, str]:
        """Time left, for people: ", about 4 min left", and of one of several runs "all runs: about 2 h left";
        nothing before it is known."""
        own, every = self.forecast.left(self.name, *self._now()) or (0.0, 0.0)
        return (
            f", {roughly(own)} left" if own else "",
            f"all runs: {roughly(every)} left" if self.name and every else "",
        )

    def _now(self) -> list[Running]:
        now = time.monotonic()
        return [Running(self.keys[name], now - one.begin, one.position) for name, one in self.running.items()]

    def _begin(self, stage: Stage) -> None:
        now = time.monotonic()
        self.running[stage.name] = _Running(now, now)
        self.forecast.began(self.keys[stage.name])

    def _learn(self, stage: Stage, seconds: object, facts: Mapping[str, object]) -> float:
        taken = float(seconds) if isinstance(seconds, int | float) else 0.0
        self.forecast.finished(self.keys[stage.name], taken, facts)
        self.running.pop(stage.name, None)
        return taken

    def _count(self, name: str) -> str:
        return f"[{1 + list(self.keys).index(name)}/{len(self.stages)}] {name}"

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Row:
    mark: str
    style: str
    note: str = ""
    seconds: float | None = None
    done: bool = False


class Panel(Display):
    """The same on a terminal: all stages with their state, and a bar for the whole."""

    def __init__(self, plan: Plan, console: Console) -> None:
        super().__init__(plan, console)
        self.rows = {stage.name: _Row("·", "dim") for stage in plan.stages}
        self.begin = time.monotonic()
        self.live: Live | None = None

    def reused(self, stage: Stage, facts: Mapping[str, object]) -> None:
        taken = self._learn(stage, facts.get("seconds"), facts)
        self._set(stage, _Row("✓", "green", "done earlier", taken, done=True))

    def note(self, stage: Stage, text: str) -> None:
        self._set(stage, _Row("!", "yellow", text))

    def started(self, stage: Stage, attempt: int) -> None:
        self._begin(stage)
        self._set(stage, _Row("▶", "cyan", "starting" if attempt == 1 else f"resuming (attempt {attempt})"))

    def moved(self, stage: Stage, position: Position | None) -> None:
        now, row = self.running[stage.name], self.rows[stage.name]
        now.position = position
        if position is not None:
            row.note = describe(position)
        row.seconds = time.monotonic() - now.begin
        self._refresh()

    def ended(self, stage: Stage, seconds: float, facts: Mapping[str, object]) -> None:
        self._learn(stage, seconds, facts)
        self._set(stage, _Row("✓", "green", summary(stage.kind, facts), seconds, done=True))

    def failed(self, name: str, error: BaseException, others: Sequence[str]) -> None:
        self.broken = True
        self._mark(
            name, isinstance(error, InterruptedRun), f"; awaiting {' and '.join(others)}" * bool(others)
        )

    def stopped(self, error: BaseException) -> None:
        for name in list(self.running):
            self._mark(name, self.broken or isinstance(error, InterruptedRun))

    def _mark(self, name: str, resumable: bool, then: str = "") -> None:
        row = self.rows[name]
        row.mark, row.style = ("‖", "yellow") if resumable else ("✗", "red")
        row.note = ("interrupted" if resumable else "failed") + then
        del self.running[name]
        self._refresh()

    def render(self) -> RenderableType:
        """The panel as it stands; taller than the terminal, it shows the stages around the current one."""
        lines = [self._line(name, row) for name, row in self.rows.items()]
        room = max(3, self.console.height - 5)
        done = sum(row.done for row in self.rows.values())
        first = max(0, min(done - room // 2, len(lines) - room))
        head = [Text(self.title, "bold", no_wrap=True, overflow="ellipsis")] if self.title else []
        left, every = self.left()
        foot = [Text(every, "dim", no_wrap=True)] if self.name else []  # a line from the start: nothing jumps
        return Group(*head, *lines[first : first + room], self._bar(done, left), *foot)

    def _line(self, name: str, row: _Row) -> Text:
        longest = max(len(stage.name) for stage in self.stages)
        took = "" if row.seconds is None else duration(row.seconds)
        line = Text.assemble(
            (row.mark, row.style),
            f" {name:<{longest}} {took:>{LONGEST_TIME}}  ",
            (one_line(row.note), "dim" if row.done else ""),
            no_wrap=True,
        )
        line.truncate(self.console.width - 1, overflow="ellipsis")
        return line

    def _bar(self, done: int, left: str) -> RenderableType:
        share = self.forecast.share(self.keys.values(), *self._now())
        count, spent = len(self.stages), duration(time.monotonic() - self.begin)
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=1.0, completed=share, width=BAR),
            Text(f"stage {min(done + 1, count)} of {count}, {spent}{left}", no_wrap=True),
        )
        return line

    def _set(self, stage: Stage, row: _Row) -> None:
        self.rows[stage.name] = row
        self._refresh()

    def _refresh(self) -> None:
        if self.live is not None:
            with held_back():
                self.live.refresh()


@contextmanager
def shown(plan: Plan, console: Console, plain: bool) -> Iterator[Display]:
    """The display that fits `console`; the panel of one run of several goes away at its end."""
    if plain or not console.is_terminal or console.is_dumb_terminal:
        yield Display(plan, console)
        return
    panel = Panel(plan, console)
    live = Live(console=console, auto_refresh=False, get_renderable=panel.render, transient=bool(plan.name))
    with held_back():
        live.start()
    try:
        panel.live = live
        yield panel
    except BaseException as error:
        panel.stopped(error)
        raise
    finally:
        with held_back():
            live.stop()


def describe(position: Position) -> str:
    """How far a stage is: step of total, its own measures, its speed."""
    parts = [f"{position.done:,}/{position.total:,} {position.unit}"]
    for name, value in position.metrics.items():
        if name == "tokens_per_second":
            parts.append(speed(value))
        else:
            parts.append(f"{name.replace('_', ' ')} {number(float(value), 2)}")
    return ", ".join(parts)


def summary(kind: str, facts: Mapping[str, object]) -> str:
    """What a finished stage made: "96 images, 3 skipped"; at last what went wrong in it."""
    shown: dict[str, str] = defaultdict(lambda: MISSING)
    shown |= {name: number(value) for name, value in facts.items() if isinstance(value, int | float)}
    said = [text.format_map(shown) for name, text in SAID.get(kind, ()) if facts.get(name) and name in shown]
    if (too_long := facts.get("too_long")) and isinstance(too_long, int):
        said.append(f"{counted(too_long, 'prompt')} too long")
    if (unfinished := facts.get("unfinished_thoughts")) and isinstance(unfinished, int):
        said.append(f"{counted(unfinished, 'thought')} unfinished (engine.thought_tokens)")
    return ", ".join([*said, *([str(facts["note"])] if "note" in facts else [])])
