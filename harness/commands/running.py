"""Running the stages of a plan, as `reproduce`, `train` and `check` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.track import Name as Tracker
    from harness.runs.forecast import Forecast
    from harness.runs.fork_server import ForkServer
    from harness.runs.shared_stages import SharedStages
    from vzero.config import Preset
    from vzero.selfplay import Stage

# A module and its arguments, run to their end in a fork; whether that was done (see `ForkServer.run`).
Forked = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Runner:
    """How a command runs stages: under which name in the ledger, anew or not, and what the user sees.
    `forecast`, `name`, `title`, `forks`: of the grid, and of the run in it. `watch`: on a page too. `track`:
    where its curves go."""

    command: str
    terminal: Console
    plain: bool
    fresh: bool = False
    forecast: Forecast | None = None
    name: str = ""
    title: str = ""
    forks: ForkServer | None = None
    watch: bool = False
    track: Tracker = "none"

    @contextmanager
    def finished(
        self, preset: Preset, folder: Path, stages: Sequence[Stage], shared: SharedStages | None = None
    ) -> Iterator[Forked]:
        """Bring `stages` to their end in `folder`; the body, which still holds the run's lock, makes what
        follows from them, in a fork as theirs where it likes."""
        from harness.cluster import session
        from harness.runs import ledger
        from harness.runs.concurrency import stages_at_once
        from harness.runs.directory import opened
        from harness.runs.display import Plan, shown
        from harness.runs.forecast import Forecast
        from harness.runs.orchestrate import run_plan

        at_once = stages_at_once(preset)
        plan = Plan(preset, stages, self.forecast or Forecast(at_once), self.name, self.title)
        with (
            opened(folder, preset, self.command, self.fresh) as run,
            self._watched(folder),
            self._tracked(preset, folder),
            self._forks() as forks,
        ):
            with (
                session.local(preset.launch.cluster),
                shown(plan, self.terminal, self.plain) as display,
            ):
                run_plan(run, preset, stages, display, shared, forks, at_once)
            if self.terminal.is_terminal:
                with self.terminal.status("Computing the results and writing the report"):
                    yield partial(forks.run, lock=run.lock)
            else:
                yield partial(forks.run, lock=run.lock)
            ledger.append(folder, {"event": "run-finished", "command": self.command})

    @contextmanager
    def _forks(self) -> Iterator[ForkServer]:
        """The grid's, or one of the run's own."""
        from harness.runs.fork_server import ForkServer

        with nullcontext(self.forks) if self.forks is not None else closing(ForkServer()) as forks:
            yield forks

    def _tracked(self, preset: Preset, folder: Path) -> AbstractContextManager[None]:
        if self.track == "none":
            return nullcontext()
        from harness.report.track import tracking  # scipy and more, for which the first line need not wait

        return tracking(self.track, preset, folder)

    @contextmanager
    def _watched(self, folder: Path) -> Iterator[None]:
        if not self.watch:
            yield
            return
        from harness.watch.server import serving

        with serving(folder) as (_, address):
            self.terminal.print(f"Live at {address}", markup=False, highlight=False, soft_wrap=True)
            yield
