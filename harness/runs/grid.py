"""A grid of arms and seeds: one run directory each, stages shared, one index.

DIR/grid.json               which runs there are and how far each is; rewritten whole whenever that changes
DIR/<arm>/seed-<k>/         a run directory like any other
DIR/stages-shared/          finished stages by content, hard-linked into the runs (see shared_stages.py)

Several processes may work in one grid: each run and each stage is done by one of them, the others go on with
the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from harness.runs.folder import RECORD, Busy, locked, prepare, set_aside_damaged
from harness.runs.shared_stages import SharedStages
from harness.tables.text import one_line
from harness.tables.words import counted
from vzero.arms import ARMS, REFERENCE, Arm, changes_of
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.presets import changed
from vzero.runtime import artefacts, owned
from vzero.runtime.stage import finished, read_preset
from vzero.selfplay import Stage, plan

INDEX, SHARED = "grid.json", "stages-shared"
PAUSE = 5.0  # seconds between two looks at runs that other processes work on
INDEX_TIMEOUT = 60.0  # seconds to wait for another process to write the index, which takes it milliseconds

Counts = Mapping[str, int]  # what a run cost: see `harness.analysis.measures.Compute`
Differences = dict[str, dict[str, int | float | None]]  # name of a count -> value, reference, ratio
RunOne = Callable[
    [Path, Preset, SharedStages], Counts
]  # (run directory, preset, store); raises as `run_plan`
# (run directory, preset, stages to finish, the reference's directory, store) -> (questions, kept)
Afford = Callable[[Path, Preset, Sequence[Stage], Path, SharedStages, bool], tuple[int, int | None]]
State = Literal["waiting", "running", "done", "failed"]


class GridEntry(BaseModel):
    """One run in the index."""

    arm: str
    category: str
    seed: int
    state: State
    reason: str | None = None
    compute: dict[str, int] | None = None
    compute_differs: Differences | None = None


class GridIndex(BaseModel):
    """grid.json."""

    format: Literal[1] = 1
    preset: str
    reference: str = REFERENCE
    runs: dict[str, GridEntry] = {}


@dataclass(frozen=True)
class GridRun:
    """One run of the grid."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Its folder below the grid's."""
        return f"{self.arm.name}/seed-{self.seed}"


def grid_runs(arms: Sequence[Arm], seeds: Sequence[int]) -> list[GridRun]:
    """Arm by arm, all seeds of each. The reference comes first; it is added where an arm is matched to it."""
    wanted = list(arms)
    if any(arm.step_matched or arm.compute_matched for arm in wanted) and all(
        arm.name != REFERENCE for arm in wanted
    ):
        wanted = [ARMS[REFERENCE], *wanted]
    wanted.sort(key=lambda arm: arm.name != REFERENCE)
    return [GridRun(arm, seed) for arm in wanted for seed in seeds]


@dataclass(frozen=True)
class Grid:
    """The grid in `folder`.

    Attributes:
        base: the preset that arms and seeds change.
        run_one: brings one run to its results, and says what it cost.
        afford: brings the stages before a Solver's training to their end; how many questions make the run's
            total compute the reference's, and how many were kept.
        say: told what happens, as sentences.
        pending: of the runs that `run` was given, those that are not over.
    """

    folder: Path
    base: Preset
    run_one: RunOne
    say: Callable[[str], None]
    afford: Afford | None = None
    pending: list[GridRun] = field(default_factory=list)

    def run(self, wanted: Sequence[GridRun], fresh: bool) -> GridIndex:
        """Bring every run of `wanted` to its results; the index as it is then.

        A run that fails is noted and the others go on. A run that another process works on is left to it and
        looked at again at the end.

        Raises:
            InterruptedRun: stopped, or the disk is full; the same call goes on.
            InputError: `folder` is something else.
        """
        shared = self.prepare(wanted, fresh)
        self.pending[:] = wanted
        told, named = False, set[str]()
        while attempted := tuple(self.pending):
            for run in attempted:
                if self._attempt(run, shared, fresh, named):
                    self.pending.remove(run)
            if len(self.pending) == len(attempted):
                if not told:
                    left = counted(len(attempted), "run")
                    self.say(f"Waiting for other processes, which do or hold up {left}.")
                    told = True
                time.sleep(PAUSE)
        return self.index()

    def prepare(self, wanted: Sequence[GridRun], fresh: bool) -> SharedStages:
        """Make the folder and its index, where they are not there; the store.

        Raises:
            InputError: `folder` is something else.
        """
        self._open(fresh)
        shared = SharedStages(self.folder / SHARED)
        shared.sweep()
        self._update(wanted, "waiting", keep=True)
        return shared

    def index(self) -> GridIndex:
        """As it is on disk.

        Raises:
            InputError: it is damaged.
        """
        path = self.folder / INDEX
        if not path.exists():
            return GridIndex(preset=self.base.name)
        try:
            return GridIndex.model_validate_json(owned.read_bytes(path))
        except ValueError:
            raise InputError(f"{path} is not the index of a grid; choose another --out.") from None

    def _open(self, fresh: bool) -> None:
        if (self.folder / RECORD).exists():
            raise InputError(f"{self.folder} is a single run; give a grid of arms another --out.")
        prepare(self.folder, "a grid of runs", INDEX, lambda _: self.index(), (SHARED, "*/seed-*"))
        with locked(self.folder, INDEX_TIMEOUT):
            if fresh:
                owned.remove(self.folder / SHARED)
            owned.refuse_links(self.folder / INDEX, self.folder / SHARED)
            owned.sweep_beside(self.folder, (INDEX,))
            set_aside_damaged(self.folder / INDEX, self.index)

    def _attempt(self, run: GridRun, shared: SharedStages, fresh: bool, named: set[str]) -> bool:
        """Whether there is nothing more to do for `run`. What it is, is said once: `named` were."""
        matched_counts = self._reference_counts(run)
        if (run.arm.step_matched or run.arm.compute_matched) and matched_counts is None:
            reference = self.index().runs.get(f"{REFERENCE}/seed-{run.seed}")
            if reference is None or reference.state != "failed":
                return False
            self._update([run], "failed", f"it is matched to {REFERENCE}, which failed with this seed")
            return True
        folder = self.folder / run.name
        try:
            owned.refuse_links(folder.parent, folder, below=False)
            self._update([run], "running", but_done=not fresh)
            if run.name not in named:
                self.say(f"{run.name}: {run.arm.summary}")
                named.add(run.name)
            own = self.preset_of(run).iterations
            if matched_counts is not None and own != len(matched_counts):
                raise InputError(
                    f"It has {counted(own, 'iteration')} and {REFERENCE} {len(matched_counts)}: it can't be "
                    "matched; leave it out."
                )
            if run.arm.compute_matched:
                matched_counts = self._affordable(run, shared, fresh)
            counts = self.run_one(folder, self.preset_of(run, matched_counts), shared)
        except Busy:
            return False
        except InterruptedRun:  # of what another process has done meanwhile nothing is left to do
            self._update([run], "waiting", but_done=not fresh)
            raise
        except VZeroError as error:
            reason = one_line(str(error), 2000)
            self._update([run], "failed", reason)
            self.say(f"{run.name} failed: {reason}")
            return True
        self._update([run], "done", compute=dict(counts))
        return True

    def preset_of(self, run: GridRun, matched_counts: Sequence[int] | None = None) -> Preset:
        """The preset of one run; `matched_counts` as `vzero.arms.changes_of` takes them."""
        return changed(self.base, {"seed": run.seed, **changes_of(run.arm, matched_counts)})

    def _affordable(self, run: GridRun, shared: SharedStages, fresh: bool) -> list[int]:
        """How many questions the Solver may train on in each iteration, one iteration after the other: each
        is known once the stages before the Solver's training are finished. An earlier attempt wrote down
        those that it knew."""
        counts: list[int] = []
        with suppress(
            InputError
        ):  # the folder says nothing yet, or what it says is refused when it is opened
            counts = [] if fresh else list(read_preset(self.folder / run.name).step_matched or ())
        for iteration in range(len(counts) + 1, self.preset_of(run).iterations + 1):
            preset, before = self.preset_of(run, counts), []
            for stage in plan(preset):
                if stage.kind == "select" and stage.iteration == iteration:
                    break
                before.append(stage)
            reference = self.folder / GridRun(ARMS[REFERENCE], run.seed).name
            assert self.afford is not None
            anew = fresh and iteration == 1
            count, kept = self.afford(self.folder / run.name, preset, before, reference, shared, anew)
            if kept is None or count > kept:
                late = "its file keeps some of them later: it may stay"
                ready = late if kept is None else f"{kept:,} were kept: it stays"
                self.say(
                    f"{run.name}: {counted(count, 'question')} of iteration {iteration} would make its total "
                    f"compute {REFERENCE}'s, and {ready} below."
                )
            counts.append(count)
        return counts

    def _reference_counts(self, run: GridRun) -> list[int] | None:
        """How many questions the reference of this seed trained its Solver on in each iteration; None until
        it has, or where nothing is matched to it."""
        if not (run.arm.step_matched or run.arm.compute_matched):
            return None
        reference = GridRun(ARMS[REFERENCE], run.seed)
        preset, folder = self.preset_of(reference), self.folder / reference.name
        counts = []
        for stage in plan(preset):
            if stage.kind == "train-solver":
                try:
                    manifest = finished(folder, preset, stage)
                except InputError:  # an earlier stage is not finished
                    return None
                if manifest is None:
                    return None
                counts.append(int(manifest["facts"]["prompts"]))
        return counts

    def _update(
        self,
        runs: Sequence[GridRun],
        state: State,
        reason: str | None = None,
        compute: dict[str, int] | None = None,
        keep: bool = False,
        but_done: bool = False,
    ) -> None:
        """Write the state of some runs into the index (with `keep`, only of those that are not in it yet;
        with `but_done`, not of those that are done there), and beside each finished run where its compute
        differs from that of the finished reference with its seed."""
        with locked(self.folder, INDEX_TIMEOUT):
            entries = dict(self.index().runs)
            for run in runs:
                known = entries.get(run.name)
                if known is None or not (keep or (but_done and known.state == "done")):
                    which = {"arm": run.arm.name, "category": run.arm.category, "seed": run.seed}
                    entries[run.name] = GridEntry(**which, state=state, reason=reason, compute=compute)
            for entry in entries.values():
                reference = entries.get(f"{REFERENCE}/seed-{entry.seed}")
                if entry.compute and reference and reference.compute:
                    entry.compute_differs = differences(entry.compute, reference.compute)
            index = GridIndex(preset=self.base.name, runs=dict(sorted(entries.items(), key=_order)))
            artefacts.write_json(self.folder / INDEX, index.model_dump(mode="json", exclude_none=True))


def differences(ours: Counts, reference: Counts) -> Differences:
    """Where what two runs cost differs; the ratio is None over nothing."""
    return {
        name: {
            "value": count,
            "reference": reference[name],
            "ratio": round(count / reference[name], 4) if reference[name] else None,
        }
        for name, count in ours.items()
        if count != reference.get(name, count)  # a count that the reference's version did not take
    }


def _order(item: tuple[str, GridEntry]) -> tuple[int, int]:
    """Arms as they are declared, then those of the user's own; of each, its seeds."""
    names = list(ARMS)
    arm = item[1].arm
    return (names.index(arm) if arm in names else len(names), item[1].seed)
