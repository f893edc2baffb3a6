"""Runs a plan to its end: finished stages are kept, the others are run one after the other, each as its own
process.

The same call after a kill resumes. A finished stage is trusted only when its files still have the hashes of
its manifest and its inputs are the ones it was made from; otherwise it is done again, and so is whatever
follows from it when its content came out different.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.runs import ledger, supervise
from harness.runs.display import Display
from harness.runs.folder import OpenFolder
from harness.runs.fork_server import ForkServer
from harness.runs.progress import ProgressReader
from harness.runs.shared_stages import SharedStages
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import VZeroError
from vzero.runtime import artefacts
from vzero.runtime.stage import finished, spec_of, stage_folder
from vzero.selfplay import Stage

POLL = 0.2  # seconds


def run_plan(
    run: OpenFolder,
    preset: Preset,
    stages: Sequence[Stage],
    display: Display,
    shared: SharedStages | None = None,
    forks: ForkServer | None = None,
) -> None:
    """Bring every stage to its seal, in order.

    Args:
        forks: stages are forked from it where they can be.
        shared: where runs share stages; a stage that is in it already is taken from there, any other is put
            there.

    Raises:
        VZeroError: a stage failed (`InputError`: fix the input; `InterruptedRun`: the same command resumes).
    """
    for stage in stages:
        manifest = settled(run.folder, preset, stage, display)
        if manifest is not None:
            display.reused(stage, manifest["facts"])
            if shared is not None:
                shared.publish(stage_folder(run.folder, stage.name))
        elif shared is None:
            _execute(run, preset, stage, display, forks)
        else:
            _share(run, preset, stage, display, shared, forks)


def _share(
    run: OpenFolder,
    preset: Preset,
    stage: Stage,
    display: Display,
    shared: SharedStages,
    forks: ForkServer | None,
) -> None:
    """Take `stage` from `shared`, or run it while no other process can begin the same one, and put it
    there."""
    folder, digest = (
        stage_folder(run.folder, stage.name),
        artefacts.digest(spec_of(run.folder, preset, stage)),
    )
    with shared.claim(
        digest, lambda: display.note(stage, "another process does the same stage; waiting for it")
    ):
        manifest = shared.fetch(digest, folder)
        if manifest is None:
            _execute(run, preset, stage, display, forks)
            shared.publish(folder)
            return
    ledger.append(run.folder, {"event": "stage-shared", "stage": stage.name, "spec_digest": digest})
    display.reused(stage, manifest["facts"])


def settled(run: Path, preset: Preset, stage: Stage, display: Display) -> dict[str, Any] | None:
    """The manifest of a stage that need not run again, else None (with a damaged stage's seal broken, so that
    it is redone)."""
    folder = stage_folder(run, stage.name)
    manifest = finished(run, preset, stage)
    if manifest is None and artefacts.sealed(folder) is None and (folder / artefacts.MANIFEST).exists():
        wrong = [artefacts.MANIFEST]
    elif manifest is None:
        return None
    else:
        # A kill between the seal and the stage's end leaves its scratch.
        shutil.rmtree(folder / artefacts.WORK, ignore_errors=True)
        found, recorded = artefacts.folder_hashes(folder), manifest["files"]
        wrong = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if wrong:
        display.note(stage, f"{', '.join(wrong[:3])} changed since it was finished; doing it again")
        (folder / artefacts.MANIFEST).unlink()
        return None
    return manifest


def _execute(
    run: OpenFolder, preset: Preset, stage: Stage, display: Display, forks: ForkServer | None
) -> None:
    attempt = ledger.attempts(run.folder, stage.name) + 1
    folder = stage_folder(run.folder, stage.name)
    ledger.append(run.folder, {"event": "stage-started", "stage": stage.name, "attempt": attempt})
    progress = ProgressReader(folder / artefacts.WORK / "progress.jsonl", begin=time.time())
    begin, child = time.monotonic(), None
    try:
        display.started(stage, attempt)
        waiting = partial(display.moved, stage, None)
        child = supervise.start(run.folder, preset, stage, run.lock, forks, waiting)
        while (code := child.poll(POLL)) is None:
            _say_notes(stage, child, display)
            display.moved(stage, progress.refresh())
        problem = supervise.failure(stage.name, code, child) if code else None
        _say_notes(stage, child, display)
    except BaseException as error:
        try:
            if child is not None:  # None: forking waits for the first imports
                child.stop()
        finally:  # also when a second interruption came meanwhile
            _note_end(run.folder, stage, attempt, begin, "stage-interrupted", reason=type(error).__name__)
        raise
    peak = supervise.peak_mib(child)
    if problem is not None:
        reason = str(problem)
        _note_end(run.folder, stage, attempt, begin, "stage-failed", code=code, reason=reason, peak_mib=peak)
        raise problem
    manifest = finished(run.folder, preset, stage)
    if manifest is None:
        raise VZeroError(f"Stage {stage.name} ended without finishing its folder (log: {child.log}).")
    seconds = _note_end(run.folder, stage, attempt, begin, "stage-finished", peak_mib=peak)
    display.ended(stage, seconds, manifest["facts"])


def _say_notes(stage: Stage, child: StageProcess, display: Display) -> None:
    for text in child.notes():
        display.note(stage, text)


def _note_end(run: Path, stage: Stage, attempt: int, begin: float, event: str, **details: object) -> float:
    """Ledger row of an attempt's end, its seconds returned. A disk too full to take the row must not hide why
    the stage ended."""
    seconds = round(time.monotonic() - begin, 3)
    try:
        row = {"event": event, "stage": stage.name, "attempt": attempt, "seconds": seconds, **details}
        ledger.append(run, row)
    except OSError:
        if event == "stage-finished":
            raise
    return seconds
