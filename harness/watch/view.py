"""What a run's folder says of it now. Reads alone: the ledger, manifests, progress and logs; a file that is
being written, or gone for a moment while a run begins anew, leaves the last view as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from harness.analysis.alarms import RULES, alarms
from harness.analysis.ground_truth import by_iteration
from harness.report import HTML
from harness.report.material import points_of
from harness.runs import ledger
from harness.runs.concurrency import stages_at_once
from harness.runs.display import describe, summary
from harness.runs.folder import held
from harness.runs.forecast import Forecast, Running
from harness.runs.progress import ProgressReader
from harness.runs.sealed import read_run
from harness.tables.text import one_line
from harness.tables.words import duration, roughly
from harness.watch.questions import QuestionView, newest
from vzero.arms import REFERENCE
from vzero.config import Preset
from vzero.errors import InputError
from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset, stage_folder
from vzero.selfplay import Stage, plan, training

State = Literal["running", "finished", "interrupted", "failed"]
StageState = Literal["waiting", "running", "done", "stopped", "failed"]
ENDS: Mapping[str, StageState] = {"stage-interrupted": "stopped", "stage-failed": "failed"}
CURVES = {"reward": "reward", "kl": "KL", "entropy": "entropy", "would_keep": "would be kept"}
MOST_POINTS = 200  # of a line


class StageView(BaseModel):
    """One line of the list of stages."""

    name: str
    state: StageState
    time: str = ""
    note: str = ""


class Curve(BaseModel):
    """A number over optimizer steps, (step, value) by iteration."""

    label: str
    lines: dict[int, list[tuple[float, float]]]


class View(BaseModel):
    """All that the page shows. In text that a model wrote control characters are escaped; it is no markup."""

    title: str
    state: State
    status: str
    share: float
    stages: list[StageView]
    curves: list[Curve]
    questions: list[QuestionView]
    alarms: list[str]
    rules: int
    report: str | None


@dataclass
class Watch:
    """Looks at one run again and again.

    Attributes:
        alarmed: what the last look at the questions found, and of which finished stages.
    """

    run: Path
    last: View | None = None
    alarmed: tuple[tuple[str, ...], list[str]] = ((), [])
    _readers: dict[str, ProgressReader] = field(default_factory=dict)  # by stage, of its last attempt
    _read: dict[Path, tuple[int, Any]] = field(default_factory=dict)

    def look(self) -> View:
        """As it stands.

        Raises:
            InputError: this is no run directory, and never was since the first look.
        """
        try:
            self.last = self._look()
        except (InputError, OSError, ValueError, KeyError):
            if self.last is None:
                raise
        return self.last

    def _look(self) -> View:
        preset, rows = read_preset(self.run), ledger.read(self.run)
        begun = [row for row in rows if row["event"] in ("run-started", "run-resumed")]
        stages = training(preset) if begun and begun[-1].get("command") == "train" else plan(preset)
        events = {row["stage"]: row for row in rows if row["event"].startswith("stage-")}
        alive, over = held(self.run), bool(rows) and rows[-1]["event"] == "run-finished"
        shown = [self._stage(stage, events.get(stage.name), alive) for stage in stages]
        failed = any(one.state == "failed" for one in shown)
        state: State = "finished" if over else "running" if alive else "failed" if failed else "interrupted"
        share, left = self._forecast(preset, stages, shown)
        report = self.run / HTML
        return View(
            title=one_line(
                " · ".join([preset.name, f"arm {preset.arm or REFERENCE}", f"seed {preset.seed}"])
            ),
            state=state,
            status=_status(state, shown, left, [row for row in rows if row["event"] in ENDS]),
            share=1.0 if over else share,
            stages=shown,
            curves=self._curves(stages),
            questions=newest(self.run, preset, stages),
            alarms=self._alarms(stages, shown),
            rules=len(RULES),
            report=str(report) if over and report.exists() else None,
        )

    def _stage(self, stage: Stage, event: Mapping[str, Any] | None, alive: bool) -> StageView:
        """By its last event; a finished one by its seal, since it may come from an earlier run."""
        folder, what = stage_folder(self.run, stage.name), event["event"] if event else ""
        if what == "stage-started" and event is not None:
            begun = datetime.fromisoformat(event["time"]).timestamp()
            reader = self._readers.get(stage.name)
            if reader is None or reader.begin != begun:
                reader = ProgressReader(folder / artefacts.WORK / "progress.jsonl", begun)
                self._readers[stage.name] = reader
            position = reader.refresh()
            note = describe(position) if position else "starting"
            state: StageState = "running" if alive else "stopped"
            return StageView(name=stage.name, state=state, time=duration(time.time() - begun), note=note)
        if event is not None and what in ENDS:
            reason = one_line(str(event.get("reason", "")), 300)
            return StageView(
                name=stage.name, state=ENDS[what], time=duration(event.get("seconds")), note=reason
            )
        manifest = self._manifest(stage)
        if manifest is None:
            return StageView(name=stage.name, state="waiting")
        facts = manifest["facts"]
        note = one_line(summary(stage.kind, facts), 300)
        return StageView(name=stage.name, state="done", time=duration(facts.get("seconds")), note=note)

    def _forecast(
        self, preset: Preset, stages: Sequence[Stage], shown: Sequence[StageView]
    ) -> tuple[float, float | None]:
        """Share that is done, and seconds left."""
        imported = any(
            one.state == "done" and stage.kind != "images" for stage, one in zip(stages, shown, strict=True)
        )
        alive = sum(one.state == "running" for one in shown)  # they have taken the memory that is asked for
        at_once = max(alive, stages_at_once(preset))
        forecast, running = Forecast(at_once, imported=imported), list[Running]()
        keys = forecast.add("", preset, stages)
        for stage, one in zip(stages, shown, strict=True):
            manifest = self._manifest(stage) if one.state == "done" else None
            if manifest is not None:
                facts = manifest["facts"]
                forecast.finished(keys[stage.name], facts.get("seconds", 0.0), facts)
            elif one.state == "running":
                reader = self._readers[stage.name]
                running.append(Running(keys[stage.name], time.time() - reader.begin, reader.position))
                forecast.began(keys[stage.name])
        left = forecast.left("", *running)
        return forecast.share(keys.values(), *running), left and left[0]

    def _curves(self, stages: Sequence[Stage]) -> list[Curve]:
        found: dict[str, Curve] = {}
        for stage in stages:
            role, path = (
                stage.kind.removeprefix("train-"),
                stage_folder(self.run, stage.name) / "metrics.jsonl",
            )
            if role not in ("questioner", "solver") or not path.exists():
                continue
            points = points_of(self._once(path, artefacts.read_rows))
            for name, what in CURVES.items():
                if points.get(name):
                    label = f"{role.capitalize()}: {what}"
                    every = 1 + len(points[name]) // MOST_POINTS
                    curve = found.setdefault(label, Curve(label=label, lines={}))
                    curve.lines[stage.iteration] = points[name][::every]
        return list(found.values())

    def _manifest(self, stage: Stage) -> dict[str, Any] | None:
        path = stage_folder(self.run, stage.name) / artefacts.MANIFEST
        return self._once(path, lambda found: artefacts.sealed(found.parent)) if path.exists() else None

    def _once(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """A file, read anew when it was written."""
        written = path.stat().st_mtime_ns
        if self._read.get(path, (0, None))[0] != written:
            self._read[path] = written, read(path)
        return self._read[path][1]

    def _alarms(self, stages: Sequence[Stage], shown: Sequence[StageView]) -> list[str]:
        """The collapse alarms that fired, judged anew when questions or labels are finished."""
        judged = ("write-questions", "label", "recycle")
        done = tuple(
            one.name
            for stage, one in zip(stages, shown, strict=True)
            if stage.kind in judged and one.state == "done"
        )
        if done != self.alarmed[0]:
            fired = alarms(by_iteration(read_run(self.run)))
            self.alarmed = done, [f"{one.message} (iteration {one.iteration})" for one in fired]
        return self.alarmed[1]


def _status(
    state: State, shown: Sequence[StageView], left: float | None, ends: Sequence[Mapping[str, Any]]
) -> str:
    done = sum(one.state == "done" for one in shown)
    if state == "finished":
        return f"finished, {done} of {len(shown)} stages"
    if state == "running":
        if done == len(shown):
            return "computing the results"
        return f"stage {done + 1} of {len(shown)}" + (f", {roughly(left)} left" if left else "")
    if state == "failed":
        return f"failed: {one_line(str(ends[-1].get('reason', '')), 400)}" if ends else "failed"
    return f"interrupted after {done} of {len(shown)} stages; the same command resumes it"
