"""The curves of a run in a tracker that was asked for (`--track`), by accelerate's own integrations.

A run of ours is one run there, in a project named after the preset: each training's metrics under the name of
its stage, the accuracies by iteration, the alarms, the settings. Numbers and settings are sent, no text of a
model and no picture. trackio and tensorboard write on this machine, and so does wandb unless WANDB_MODE says
otherwise. Its name there and how much was sent are written down beside the run: resumed, it goes on where its
curves ended; begun anew, it is another run.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from json import loads
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from pydantic import BaseModel, Field

from harness.analysis.results import BASE, FILE, read_results
from harness.runs.directory import TRACKED
from vzero.config import Preset
from vzero.errors import InputError, escaped
from vzero.presets import flatten
from vzero.runtime import artefacts, owned
from vzero.runtime.stage import stage_folder
from vzero.selfplay import plan

Name = Literal["trackio", "wandb", "tensorboard", "none"]
SENT, TENSORBOARD = TRACKED  # in the run; the first is a `Sent`
METRICS = "metrics.jsonl"
EVERY = 5.0  # seconds between two looks at what training wrote


def require(name: str) -> None:
    """Raises InputError where the tracker is not installed."""
    if name != "none" and find_spec(name) is None:
        raise InputError(f"--track {name} needs {name}, which is not installed: pip install {name}.")


@contextmanager
def tracking(name: Name, preset: Preset, folder: Path) -> Iterator[None]:
    """Send the curves of the run in `folder` while the body runs, and its results at the end. A tracker that
    fails says so once, and the run goes on without it."""
    curves = _curves(name, preset, folder)
    if curves is None:
        yield
        return
    stop = Event()
    thread = Thread(target=curves.follow, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        curves.close()


class Sent(BaseModel):
    """What a tracker has of a run: under which `key` of its own, and how many rows by source."""

    key: str = Field(default_factory=lambda: secrets.token_hex(4), pattern="^[0-9a-f]{8}$")
    rows: dict[str, int] = {}


def _curves(name: Name, preset: Preset, folder: Path) -> Curves | None:
    """None where the tracker does not start."""
    try:
        sent = Sent.model_validate_json(owned.read_bytes(folder / SENT))
    except (OSError, ValueError):  # none yet, or damaged: another run there, sent whole
        sent = Sent()
    try:
        with redirect_stdout(sys.stderr):
            curves = Curves(_started(name, preset, folder, sent.key), preset, folder, sent)
            artefacts.write_json(folder / SENT, sent.model_dump())  # stopped before a row, it is the same run
            return curves
    except Exception as error:
        _say(error)
        return None


def _say(error: Exception) -> None:
    text = escaped(" ".join(f"{type(error).__name__}: {error}".split()))
    print(f"tracking ended, the run goes on: {text}", file=sys.stderr)


def _started(name: Name, preset: Preset, folder: Path, key: str) -> Any:
    """accelerate's tracker, open."""
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    PartialState()  # asks which process of several this is: the only one
    project, run = f"vzero-{preset.name}", f"{'-'.join(folder.absolute().parts[-2:])}-{key}"
    settings = preset.model_dump(mode="json")
    if name == "tensorboard":
        tracker = TensorBoardTracker(run, folder / TENSORBOARD)
    elif name == "trackio":
        tracker = TrackioTracker(project, name=run, resume="allow")
    else:
        owned.refuse_links(folder / "wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        tracker = WandBTracker(project, name=run, id=run, resume="allow", mode=mode, dir=str(folder))
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
    sent: Sent
    broken: bool = False

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
            _say(error)

    def _metrics(self) -> None:
        for stage in plan(self.preset):
            path = stage_folder(self.folder, stage.name) / METRICS
            if not path.exists():
                continue
            whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last row may be half written
            for row in map(loads, whole[self.sent.rows.get(stage.name, 0) :]):
                self._send(stage.name, {f"{stage.name}/{key}": value for key, value in row.items()})

    def _results(self) -> None:
        """By iteration the accuracies in %, and what alarms there are."""
        if not (self.folder / FILE).exists():
            return
        results = read_results(self.folder / FILE)
        models = [BASE, *(model for model in results.models if model != BASE)]
        known = self.sent.rows.get("results", 0)
        for iteration, model in enumerate(models[known:], known):
            values = {
                f"accuracy/{suite}/{metric}": 100 * found.value
                for suite, by_model in results.suites.items()
                if model in by_model
                for metric, found in by_model[model].accuracy.items()
            }
            self._send("results", {"iteration": iteration, **values})
        if results.alarms and "alarms" not in self.sent.rows:
            self._send(
                "alarms", {f"alarms/{one.rule}-{one.iteration}": one.message for one in results.alarms}
            )

    def _send(self, source: str, values: dict[str, Any]) -> None:
        """One point of the curves. Steps count all that was sent: trackers refuse one that goes back."""
        known = {key: value for key, value in values.items() if value is not None}
        self.tracker.log(known, step=sum(self.sent.rows.values()))
        self.sent.rows[source] = self.sent.rows.get(source, 0) + 1
        artefacts.write_json(self.folder / SENT, self.sent.model_dump())
