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
from harness.runs.directory import OpenRun
from harness.runs.display import Display
from harness.runs.head import Head, leading
from harness.runs.several import ALONE
from harness.runs.shared_stages import Store
from harness.runs.supervise import StageProcess
from harness.runs.watch import Watch
from vzero.config import Preset
from vzero.errors import VZeroError
from vzero.runtime import artefacts
from vzero.runtime.stage import finished, spec_of, stage_folder
from vzero.selfplay import Stage, processes_of

POLL = 0.2  # seconds


def run_plan(
    run: OpenRun, preset: Preset, stages: Sequence[Stage], display: Display, store: Store | None = None
) -> None:
    """Bring every stage to its seal, in order.

    Args:
        store: where runs share stages; a stage that is in it already is taken from there, any other is put
            there.

    Raises:
        VZeroError: a stage failed (`InputError`: mend the input; `InterruptedRun`: the same command resumes).
    """
    with leading(run.folder, preset) as head:
        ahead = (
            one
            for one in stages
            if _on_all_nodes(head, preset, one)
            and not (stage_folder(run.folder, one.name) / artefacts.MANIFEST).exists()
        )
        if (
            head is not None and (first := next(ahead, None)) is not None
        ):  # before hours are spent on what one node does alone
            head.gather(lambda missing: display.gathering(first, missing))
            ledger.append(run.folder, {"event": "nodes-joined", "nodes": preset.launch.nodes})
        for stage in stages:
            manifest = settled(run.folder, preset, stage, display)
            if manifest is not None:
                display.reused(stage, manifest["facts"].get("seconds", 0.0))
                if store is not None:
                    store.publish(stage_folder(run.folder, stage.name))
            elif store is None:
                _execute(run, preset, stage, display, head if _on_all_nodes(head, preset, stage) else None)
            else:
                _share(run, preset, stage, display, store)


def _on_all_nodes(head: Head | None, preset: Preset, stage: Stage) -> bool:
    return head is not None and processes_of(preset, stage.kind) > 1


def _share(run: OpenRun, preset: Preset, stage: Stage, display: Display, store: Store) -> None:
    """Take `stage` from `store`, or run it while no other process can begin the same one, and put it
    there."""
    folder, digest = (
        stage_folder(run.folder, stage.name),
        artefacts.digest(spec_of(run.folder, preset, stage)),
    )
    with store.claim(digest, lambda: display.waiting(stage)):
        manifest = store.fetch(digest, folder)
        if manifest is None:
            _execute(run, preset, stage, display)
            store.publish(folder)
            return
    ledger.append(run.folder, {"event": "stage-shared", "stage": stage.name, "spec_digest": digest})
    display.reused(stage, manifest["facts"].get("seconds", 0.0))


def settled(run: Path, preset: Preset, stage: Stage, display: Display) -> dict[str, Any] | None:
    """The manifest of a stage that need not run again, else None (with a damaged stage's seal broken, so that
    it is redone)."""
    folder = stage_folder(run, stage.name)
    try:
        manifest = finished(run, preset, stage)
        recorded = None if manifest is None else manifest["files"]
    except (ValueError, KeyError, TypeError):  # the manifest itself is damaged
        manifest, recorded = None, None
        _break_seal(folder, stage, [artefacts.MANIFEST], display)
    if manifest is None or recorded is None:
        return None
    _sweep(folder)  # a kill between the seal and the end of the stage
    found = artefacts.folder_hashes(folder)
    wrong = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if wrong:
        _break_seal(folder, stage, wrong, display)
        return None
    return manifest


def _break_seal(folder: Path, stage: Stage, files: Sequence[str], display: Display) -> None:
    display.damaged(stage, files)
    (folder / artefacts.MANIFEST).unlink()


def _sweep(folder: Path) -> None:
    shutil.rmtree(folder / artefacts.WORK, ignore_errors=True)


def _execute(run: OpenRun, preset: Preset, stage: Stage, display: Display, head: Head | None = None) -> None:
    """Run `stage` as a process of this machine, or on all nodes under `head`."""
    if head is not None:
        head.gather(lambda missing: display.gathering(stage, missing))
    attempt = ledger.attempts(run.folder, stage.name) + 1
    folder = stage_folder(run.folder, stage.name)
    artefacts.drop_torn_writes(folder)
    ledger.append(run.folder, {"event": "stage-started", "stage": stage.name, "attempt": attempt})
    display.started(stage, attempt)
    watch = Watch(folder / artefacts.WORK / "progress.jsonl", begin=time.time())
    begin = time.monotonic()
    child = supervise.start(run.folder, preset, stage, run.lock, ALONE if head is None else head.call(stage))
    try:
        while (code := child.poll()) is None and not (head is not None and head.broken()):
            display.moved(stage, watch.refresh())
            time.sleep(POLL)
        problem = _failure(stage, child, code, head)
    except BaseException as error:
        child.stop()
        _note_end(run.folder, stage, attempt, begin, "stage-interrupted", reason=type(error).__name__)
        raise
    if problem is not None:
        _note_end(
            run.folder,
            stage,
            attempt,
            begin,
            "stage-failed",
            code=code,
            reason=str(problem),
            peak_mib=child.peak_mib,
        )
        raise problem
    manifest = finished(run.folder, preset, stage)
    if manifest is None:
        raise VZeroError(f"Stage {stage.name} ended without finishing its folder (log: {child.log}).")
    seconds = _note_end(run.folder, stage, attempt, begin, "stage-finished", peak_mib=child.peak_mib)
    display.ended(stage, seconds, manifest["facts"])


def _failure(stage: Stage, child: StageProcess, code: int | None, head: Head | None) -> VZeroError | None:
    """Why `stage` failed, None if it did not; `code` None: another node's part has failed, and this one's is
    ended."""
    if code == 0:
        if head is not None:
            head.dismiss()
        return None
    if code is None:
        child.stop()
    own = None if code is None else supervise.failure(stage, code, child)
    return own if head is None else head.verdict(code, own)


def _note_end(run: Path, stage: Stage, attempt: int, begin: float, event: str, **details: Any) -> float:
    """Ledger row of an attempt's end, its seconds returned. A disk too full to take the row must not hide why
    the stage ended."""
    seconds = round(time.monotonic() - begin, 3)
    try:
        ledger.append(
            run, {"event": event, "stage": stage.name, "attempt": attempt, "seconds": seconds, **details}
        )
    except OSError:
        if event == "stage-finished":
            raise
    return seconds
