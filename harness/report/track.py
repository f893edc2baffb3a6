"""The curves of a run in a tracker that was asked for (`--track`), by accelerate's own integrations.

A run of ours is one run there, in a project named after the preset: each training's metrics under the name of
its stage, the accuracies by iteration, the alarms, the settings. Numbers and settings are sent, no text of a
model and no picture. trackio and tensorboard write on this machine, and so does wandb unless WANDB_MODE says
otherwise. How much was sent is written down beside the run: resumed, it goes on where its curves ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from json import loads
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from harness.analysis.results import BASE, FILE, read_results
from harness.runs.directory import TRACKED
from vzero.config import Preset
from vzero.errors import InputError
from vzero.presets import flatten
from vzero.runtime import artefacts
from vzero.runtime.stage import stage_folder
from vzero.selfplay import plan

Name = Literal["trackio", "wandb", "tensorboard", "none"]
SENT, TENSORBOARD = TRACKED  # in the run; the first says by stage how many rows were sent
METRICS = "metrics.jsonl"
EVERY = 5.0  # seconds between two looks at what training wrote
INSTALL = {"trackio": '"vzero-harness[trackio]"', "wandb": "wandb", "tensorboard": "tensorboard"}


def require(name: str) -> None:
    """Raises InputError where the tracker is not installed."""
    if name != "none" and find_spec(name) is None:
        raise InputError(f"--track {name} needs {name}, which is not installed: pip install {INSTALL[name]}.")


@contextmanager
def tracking(name: Name, preset: Preset, folder: Path) -> Iterator[None]:
    """Send the curves of the run in `folder` while the body runs, and its results at the end. A tracker that
    fails says so once, and the run goes on without it."""
    if name == "none":
        yield
        return
    with redirect_stdout(sys.stderr):
        tracker = _started(name, preset, folder)
    curves = Curves(tracker, preset, folder)
    stop = Event()
    thread = Thread(target=curves.follow, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        curves.close()


def _started(name: Name, preset: Preset, folder: Path) -> Any:
    """accelerate's tracker, open."""
    require(name)
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    PartialState()  # asks which process of several this is: the only one
    project, run = f"vzero-{preset.name}", "-".join(folder.absolute().parts[-2:])
    settings = preset.model_dump(mode="json")
    if name == "tensorboard":
        tracker = TensorBoardTracker(run, folder / TENSORBOARD)
    elif name == "trackio":
        tracker = TrackioTracker(project, name=run, resume="allow")
    else:
        mode = os.environ.get("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        one = f"{run}-{artefacts.digest([str(folder.absolute()), settings])[:8]}"
        tracker = WandBTracker(project, name=run, id=one, resume="allow", mode=mode, dir=str(folder))
    tracker.start()
    programs = preset.programs()
    tracker.store_init_configuration(
        {
            key: artefacts.digest(value) if key in programs else value if _plain(value) else str(value)
            for key, value in flatten(settings).items()
        }
    )
    return tracker


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


@dataclass
class Curves:
    """What was sent of a run to `tracker`, an accelerate GeneralTracker, and what is still to be."""

    tracker: Any
    preset: Preset
    folder: Path
    broken: bool = False
    sent: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.folder / SENT).exists():
            self.sent = artefacts.read_json(self.folder / SENT)

    def follow(self, stop: Event) -> None:
        """Until `stop`: send each row of each training's metrics as it is written."""
        while not stop.wait(EVERY):
            self._safely(self._metrics)

    def close(self) -> None:
        """Send the rest and the results, and close the tracker."""
        with redirect_stdout(sys.stderr):  # trackers greet and take their leave; stdout is for results
            for last in (self._metrics, self._results, self.tracker.finish):
                self._safely(last)

    def _safely(self, step: Any) -> None:
        if self.broken:
            return
        try:
            step()
        except Exception as error:
            self.broken = True
            print(f"tracking ended, the run goes on: {type(error).__name__}: {error}", file=sys.stderr)

    def _metrics(self) -> None:
        for stage in plan(self.preset):
            path = stage_folder(self.folder, stage.name) / METRICS
            if not path.exists():
                continue
            whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last row may be half written
            for row in map(loads, whole[self.sent.get(stage.name, 0) :]):
                self._send(stage.name, {f"{stage.name}/{key}": value for key, value in row.items()})

    def _results(self) -> None:
        """By iteration the accuracies in %, and what alarms there are."""
        if not (self.folder / FILE).exists():
            return
        results = read_results(self.folder / FILE)
        models = [BASE, *(model for model in results.models if model != BASE)]
        for iteration, model in enumerate(models[self.sent.get("results", 0) :], self.sent.get("results", 0)):
            values = {
                f"accuracy/{suite}/{metric}": 100 * found.value
                for suite, by_model in results.suites.items()
                if model in by_model
                for metric, found in by_model[model].accuracy.items()
            }
            self._send("results", {"iteration": iteration, **values})
        if results.alarms and "alarms" not in self.sent:
            self._send(
                "alarms", {f"alarms/{one.rule}-{one.iteration}": one.message for one in results.alarms}
            )

    def _send(self, source: str, values: dict[str, Any]) -> None:
        """One point of the curves. Steps count all that was sent: trackers refuse one that goes back."""
        self.tracker.log(
            {key: value for key, value in values.items() if value is not None}, step=sum(self.sent.values())
        )
        self.sent[source] = self.sent.get(source, 0) + 1
        artefacts.write_json(self.folder / SENT, self.sent)
