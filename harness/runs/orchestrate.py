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
from pathlib import Path
from typing import Any

from harness.runs import ledger, supervise
from harness.runs.display import Display
from harness.runs.folder import OpenFolder
from harness.runs.fork_server import ForkServer
from harness.runs.launcher import ONE_NODE
from harness.runs.leader import Leader, leading
from harness.runs.nodes import named
from harness.runs.progress import ProgressReader
from harness.runs.shared_stages import SharedStages
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import VZeroError
from vzero.runtime import artefacts
from vzero.runtime.stage import finished, spec_of, stage_folder
from vzero.selfplay import Stage, processes_of

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
    with leading(run.folder, preset) as leader:
        if leader is not None:
            _gather_early(run, preset, stages, display, leader)
        for stage in stages:
            manifest = settled(run.folder, preset, stage, display)
            if manifest is not None:
                display.reused(stage, manifest["facts"])
                if shared is not None:
                    shared.publish(stage_folder(run.folder, stage.name))
            elif shared is None:
                everywhere = leader if _on_all_nodes(preset, stage) else None
                _execute(run, preset, stage, display, everywhere, forks)
            else:
                _share(run, preset, stage, display, shared, forks)


def _on_all_nodes(preset: Preset, stage: Stage) -> bool:
    return preset.launch.nodes > 1 and processes_of(preset, stage.kind) > 1


def _gather_early(
    run: OpenFolder, preset: Preset, stages: Sequence[Stage], display: Display, leader: Leader
) -> None:
    """Wait for all nodes before hours are spent on what one node does alone, where any stage needs them."""
    for stage in stages:
        sealed = (stage_folder(run.folder, stage.name) / artefacts.MANIFEST).exists()
        if _on_all_nodes(preset, stage) and not sealed:
            _gather(stage, display, leader)
            ledger.append(run.folder, {"event": "nodes-joined", "nodes": preset.launch.nodes})
            return


def _gather(stage: Stage, display: Display, leader: Leader) -> None:
    leader.gather(lambda missing: display.note(stage, f"waiting for {named(missing)}"))


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
            _execute(run, preset, stage, display, None, forks)
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
    run: OpenFolder,
    preset: Preset,
    stage: Stage,
    display: Display,
    leader: Leader | None,
    forks: ForkServer | None,
) -> None:
    """Run `stage` as a process of this machine, or on all nodes under `leader`."""
    if leader is not None:
        _gather(stage, display, leader)
    attempt = ledger.attempts(run.folder, stage.name) + 1
    folder = stage_folder(run.folder, stage.name)
    ledger.append(run.folder, {"event": "stage-started", "stage": stage.name, "attempt": attempt})
    display.started(stage, attempt)
    progress = ProgressReader(folder / artefacts.WORK / "progress.jsonl", begin=time.time())
    begin = time.monotonic()
    rendezvous = ONE_NODE if leader is None else leader.assign(stage)
    child = supervise.start(run.folder, preset, stage, run.lock, rendezvous, forks)
    try:
        while (code := child.poll(POLL)) is None and not (leader is not None and leader.broken()):
            display.moved(stage, progress.refresh())
        problem = _failure(stage, child, code, leader)
        for text in supervise.notes(child):
            display.note(stage, text)
    except BaseException as error:
        try:
            child.stop()
        finally:  # also when a second interruption came meanwhile
            _note_end(run.folder, stage, attempt, begin, "stage-interrupted", reason=type(error).__name__)
        raise
    peak = child.peak_mib
    if problem is not None:
        reason = str(problem)
        _note_end(run.folder, stage, attempt, begin, "stage-failed", code=code, reason=reason, peak_mib=peak)
        raise problem
    manifest = finished(run.folder, preset, stage)
    if manifest is None:
        raise VZeroError(f"Stage {stage.name} ended without finishing its folder (log: {child.log}).")
    seconds = _note_end(run.folder, stage, attempt, begin, "stage-finished", peak_mib=peak)
    display.ended(stage, seconds, manifest["facts"])


def _failure(stage: Stage, child: StageProcess, code: int | None, leader: Leader | None) -> VZeroError | None:
    """Why `stage` failed, None if it did not; `code` None: another node's part has failed, and this one's is
    ended."""
    if code == 0:
        if leader is not None:
            leader.withdraw()
        return None
    if code is None:
        child.stop()
    own = None if code is None else supervise.failure(stage, code, child)
    return own if leader is None else leader.verdict(code, own)


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
