"""Runs a plan to its end: finished stages are kept, each of the others is a process of its own.

What trains is one chain of stages; what measures (`selfplay.MEASUREMENTS`) hangs on it by its inputs, nothing
waits for it, and it runs beside the chain where the machine carries two stages (see concurrency.py). A stage
begins when those it reads are finished, so what it writes does not depend on which others are alive.

The same call after a kill resumes. A finished stage is trusted only when its files still have the hashes of
its manifest and its inputs are the ones it was made from; otherwise it is done again, and so is whatever
follows from it when its content came out different.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
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
from vzero.errors import InterruptedRun, VZeroError
from vzero.runtime import artefacts
from vzero.runtime.stage import finished, spec_of, stage_folder
from vzero.selfplay import MEASUREMENTS, Stage

POLL = 0.1  # seconds
Looks = Generator[None, None, VZeroError | None]  # one stage: a look at it each time, then why it failed
Children = dict[str, StageProcess]  # the processes that are alive, by their stage


def run_plan(
    run: OpenFolder,
    preset: Preset,
    stages: Sequence[Stage],
    display: Display,
    shared: SharedStages | None = None,
    forks: ForkServer | None = None,
    at_once: int = 1,
) -> None:
    """Bring every stage to its seal. When one fails, none begins. One that measured is no reason to lose what
    a training has done: that goes on to its end. Else what measures is stopped, its answers are kept.

    Args:
        forks: stages are forked from it where they can be.
        shared: where runs share stages; a stage that is in it already is taken from there, any other is put
            there.
        at_once: at most so many stages are alive; one at a time is the order of `stages`.

    Raises:
        VZeroError: a stage failed (`InputError`: fix the input; `InterruptedRun`: the same command resumes);
            of several the first that the same command cannot resume, else the first.
    """
    waiting, alive, children = list(stages), dict[str, Looks](), Children()
    measuring = {stage.name for stage in stages if stage.kind in MEASUREMENTS}
    failed: VZeroError | None = None
    try:
        while alive or (waiting and failed is None):
            while failed is None and len(alive) < at_once and (stage := _ready(waiting, alive, at_once)):
                waiting.remove(stage)
                alive[stage.name] = _bring(run, preset, stage, display, shared, forks, children)
            for name, looks in list(alive.items()):
                try:
                    next(looks)
                except StopIteration as ended:
                    del alive[name]
                    if ended.value is None:
                        continue
                    failed, awaited = _graver(failed, ended.value), list(alive) if name in measuring else []
                    display.failed(name, ended.value, awaited)
                    if not awaited:
                        raise failed from None
    except BaseException as error:
        for looks in alive.values():  # one of them may have raised it: that one has ended
            with suppress(BaseException):
                looks.throw(error)
        if failed is not None and isinstance(error, InterruptedRun):
            raise failed from None
        raise
    if failed is not None:
        raise failed


def _graver(first: VZeroError | None, second: VZeroError) -> VZeroError:
    """What the run ends by: never "the same command resumes" where something else stands in its way."""
    return second if first is None or isinstance(first, InterruptedRun) else first


def _ready(waiting: Sequence[Stage], alive: Iterable[str], at_once: int) -> Stage | None:
    """The stage to begin next: what measures comes last, since nothing waits for it."""
    unfinished = {*alive, *(stage.name for stage in waiting)}
    ready = (stage for stage in waiting if unfinished.isdisjoint(stage.inputs.values()))
    return min(ready, key=lambda stage: at_once > 1 and stage.kind in MEASUREMENTS, default=None)


def _bring(
    run: OpenFolder,
    preset: Preset,
    stage: Stage,
    display: Display,
    shared: SharedStages | None,
    forks: ForkServer | None,
    children: Children,
) -> Looks:
    """Bring `stage`, whose inputs are finished, to its seal."""
    folder = stage_folder(run.folder, stage.name)
    manifest = settled(run.folder, preset, stage, display)
    if manifest is not None:
        display.reused(stage, manifest["facts"])
        if shared is not None:
            shared.publish(folder)
        return None
    if shared is None:
        return (yield from _execute(run, preset, stage, display, forks, children))
    digest = artefacts.digest(spec_of(run.folder, preset, stage))
    with shared.claim(digest) as claimed:  # held until the stage is there
        if not claimed():
            display.note(stage, "another process does the same stage; waiting for it")
            while not claimed():
                time.sleep(POLL)
                yield
        manifest = shared.fetch(digest, folder)
        if manifest is None:
            problem = yield from _execute(run, preset, stage, display, forks, children)
            if problem is None:
                shared.publish(folder)
            return problem
    ledger.append(run.folder, {"event": "stage-shared", "stage": stage.name, "spec_digest": digest})
    display.reused(stage, manifest["facts"])
    return None


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
    run: OpenFolder,
    preset: Preset,
    stage: Stage,
    display: Display,
    forks: ForkServer | None,
    children: Children,
) -> Looks:
    """Run `stage`. What interrupts the runner here ends all `children` together."""
    attempt = ledger.attempts(run.folder, stage.name) + 1
    folder = stage_folder(run.folder, stage.name)
    ledger.append(run.folder, {"event": "stage-started", "stage": stage.name, "attempt": attempt})
    progress = ProgressReader(folder / artefacts.WORK / "progress.jsonl", begin=time.time())
    begin = time.monotonic()
    try:
        display.started(stage, attempt)
        while not supervise.ready(preset, stage, forks):  # the first that is forked waits for the imports
            display.moved(stage, None)
            time.sleep(POLL)
            yield
        child = children[stage.name] = supervise.start(run.folder, preset, stage, run.lock, forks)
        while (code := child.poll(POLL)) is None:
            _say_notes(stage, child, display)
            display.moved(stage, progress.refresh())
            yield
        problem = supervise.failure(stage.name, code, child) if code else None
        manifest = finished(run.folder, preset, stage) if problem is None else None
        if problem is None and manifest is None:
            problem = VZeroError(f"Stage {stage.name} ended without finishing its folder (log: {child.log}).")
        _say_notes(stage, child, display)
    except BaseException as error:
        try:
            supervise.stop(children.values())
        finally:  # also when a second interruption came meanwhile
            _note_end(run.folder, stage, attempt, begin, "stage-interrupted", reason=type(error).__name__)
        raise
    del children[stage.name]
    peak = supervise.peak_mib(child)
    if manifest is None or problem is not None:
        reason = str(problem)
        _note_end(run.folder, stage, attempt, begin, "stage-failed", code=code, reason=reason, peak_mib=peak)
        return problem
    seconds = _note_end(run.folder, stage, attempt, begin, "stage-finished", peak_mib=peak)
    display.ended(stage, seconds, manifest["facts"])
    return None


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
