"""A grid of arms and seeds: one run directory each, stages shared, one index.

DIR/grid.json               which runs there are and how far each is; rewritten whole whenever that changes
DIR/<arm>/seed-<k>/         a run directory like any other
DIR/stages-shared/          finished stages by content, hard-linked into the runs (see `harness.runs.shared_stages`)

Several processes may work in one grid: each run and each stage is done by one of them, the others go on with
the next.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.compute import differences
from harness.runs import lock
from harness.runs.directory import RUN_FILE
from harness.runs.shared_stages import Store
from vzero.arms import ARMS, REFERENCE, Arm, changes_of
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.presets import changed
from vzero.runtime import artefacts
from vzero.runtime.stage import finished
from vzero.selfplay import plan

INDEX, SHARED, RESULTS = "grid.json", "stages-shared", "results.json"
FORMAT = 1
PAUSE = 5.0  # seconds between two looks at runs that other processes work on
INDEX_PATIENCE = 60.0  # seconds to wait for another process to write the index, which takes it milliseconds
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Its folder below the grid's."""
        return f"{self.arm.name}/seed-{self.seed}"


RunOne = Callable[
    [Path, Preset, Store], Mapping[str, Any]
]  # (run directory, preset, store) -> results; raises as `run_plan`


def cells(arms: Sequence[Arm], seeds: Sequence[int]) -> list[Cell]:
    """Arm by arm, all seeds of each. The reference comes first; it is added where an arm is matched to it."""
    wanted = list(arms)
    if any(arm.step_matched for arm in wanted) and all(arm.name != REFERENCE for arm in wanted):
        wanted = [ARMS[REFERENCE], *wanted]
    wanted.sort(key=lambda arm: arm.name != REFERENCE)
    return [Cell(arm, seed) for arm in wanted for seed in seeds]


def run_grid(
    folder: Path,
    base: Preset,
    wanted: Sequence[Cell],
    run_one: RunOne,
    say: Callable[[str], None],
    fresh: bool,
) -> dict[str, Any]:
    """Bring every run of `wanted` to its results; the index as it is then.

    A run that fails is noted and the others go on. A run that another process works on is left to it and
    looked at again at the end.

    Raises:
        InterruptedRun: stopped, or the disk is full; the same call goes on.
        InputError: `folder` is something else.
    """
    _open(folder, fresh)
    store = Store(folder / SHARED)
    store.sweep()
    _note(folder, base, wanted, {"state": WAITING}, keep=True)
    pending, told = list(wanted), False
    while pending:
        left = [cell for cell in pending if not _attempt(folder, base, cell, run_one, store, say)]
        if len(left) == len(pending):
            if not told:
                say(f"{len(left)} runs are being done, or waited for, by other processes; waiting for them.")
                told = True
            time.sleep(PAUSE)
        pending = left
    return _compare(folder)


def _open(folder: Path, fresh: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file, not a folder; choose another --out.") from None
    except PermissionError as error:
        raise InputError(f"Cannot write in {folder}: {error.strerror}; choose another --out.") from None
    if RUN_FILE in names:
        raise InputError(f"{folder} is a single run; give a grid of arms another --out.")
    if INDEX not in names and any(not name.startswith(".") for name in names):
        raise InputError(f"{folder} is not empty and not a grid of runs (no {INDEX}); choose another --out.")
    if fresh:
        shutil.rmtree(folder / SHARED, ignore_errors=True)


def _attempt(
    folder: Path, base: Preset, cell: Cell, run_one: RunOne, store: Store, say: Callable[[str], None]
) -> bool:
    """Whether there is nothing more to do for `cell`."""
    matched_counts = _matched(folder, base, cell)
    if cell.arm.step_matched and matched_counts is None:
        reference = _read(folder)["runs"].get(f"{REFERENCE}/seed-{cell.seed}", {})
        if reference.get("state") != FAILED:
            return False
        _note(
            folder,
            base,
            [cell],
            {"state": FAILED, "reason": f"it is matched to {REFERENCE}, which failed with this seed"},
        )
        return True
    preset = _preset(base, cell, matched_counts)
    try:
        _note(folder, base, [cell], {"state": RUNNING})
        say(f"{cell.name}: {cell.arm.summary}")
        results = run_one(folder / cell.name, preset, store)
    except lock.Busy:
        return False
    except InterruptedRun:
        _note(folder, base, [cell], {"state": WAITING})
        raise
    except VZeroError as error:
        reason = _plain(str(error))
        _note(folder, base, [cell], {"state": FAILED, "reason": reason})
        say(f"{cell.name} failed: {reason}")
        return True
    _note(folder, base, [cell], {"state": DONE, "compute": results["compute"]})
    _compare(folder)
    return True


def _plain(text: str) -> str:
    """One line without control characters: what a stage said may quote anything, and it is shown in
    terminals."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _preset(base: Preset, cell: Cell, matched_counts: Sequence[int] | None) -> Preset:
    return changed(base, {"seed": cell.seed, **changes_of(cell.arm, matched_counts)})


def _matched(folder: Path, base: Preset, cell: Cell) -> list[int] | None:
    """How many questions the reference of this seed trained its Solver on in each iteration; None until it
    has."""
    if not cell.arm.step_matched:
        return None
    reference = Cell(ARMS[REFERENCE], cell.seed)
    preset, run = _preset(base, reference, None), folder / reference.name
    counts = []
    for stage in plan(preset):
        if stage.kind == "train-solver":
            try:
                manifest = finished(run, preset, stage)
            except InputError:  # an earlier stage is not finished
                return None
            if manifest is None:
                return None
            counts.append(int(manifest["facts"]["prompts"]))
    return counts


def _read(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    return artefacts.read_json(path) if path.exists() else {"runs": {}}


def _note(
    folder: Path, base: Preset, about: Sequence[Cell], state: Mapping[str, Any], keep: bool = False
) -> None:
    """Write the state of some runs into the index; with `keep`, only of runs that are not in it yet."""
    with lock.hold(folder, INDEX_PATIENCE):
        index = _read(folder)
        runs = dict(index["runs"])
        for cell in about:
            if not (keep and cell.name in runs):
                runs[cell.name] = {"arm": cell.arm.name, "category": cell.arm.category, "seed": cell.seed, **state}
        order = list(ARMS)
        ordered = sorted(
            runs.items(),
            key=lambda pair: (
                order.index(pair[1]["arm"]) if pair[1]["arm"] in order else len(order),
                pair[1]["seed"],
            ),
        )
        artefacts.write_json(
            folder / INDEX,
            {"format": FORMAT, "preset": base.name, "reference": REFERENCE, "runs": dict(ordered)},
        )


def _compare(folder: Path) -> dict[str, Any]:
    """Put the differences in compute from the reference of the same seed beside each finished run, in the
    index and in its results."""
    with lock.hold(folder, INDEX_PATIENCE):
        index = _read(folder)
        for name, entry in index["runs"].items():
            reference = index["runs"].get(f"{REFERENCE}/seed-{entry['seed']}", {})
            if entry["state"] != DONE or reference.get("state") != DONE:
                continue
            entry["compute_differs"] = differences(entry["compute"], reference["compute"])
            path = folder / name / RESULTS
            results = artefacts.read_json(path)
            results["compute_differs"] = entry["compute_differs"]
            artefacts.write_json(path, results)
        artefacts.write_json(folder / INDEX, index)
    return index
