"""How one stage runs, in one process or, for training, in several that are started alike.

The run's preset is in RUN/run.json; the plan follows from it. A stage reads the sealed folders of the stages
before it, writes its own folder RUN/stages/STAGE and seals it last. Scratch that a killed stage resumes from
lives in its `work/` and is removed after sealing. Which program runs which stage, the caller says
(vzero.stages).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vzero.config import Preset
from vzero.errors import InputError, VZeroError, escaped, machine_failure
from vzero.runtime import artefacts, owned, processes, scratch
from vzero.runtime.processes import World
from vzero.runtime.progress import Progress
from vzero.selfplay import Stage, plan

MODEL_ROLES = frozenset({"questioner", "solver", "intuition", "model"})
Facts = dict[str, Any]


@dataclass(frozen=True)
class StageContext:
    """What a stage program is given.

    Attributes:
        stage: which one, with its own section of the config.
        preset: the whole experiment, for what several stages share (engine, prompt_format, seed).
        folder: where it writes; everything here but `work` becomes the sealed output.
        inputs: role -> folder. Model roles point at a checkpoint, other roles at the sealed stage folder.
        progress: where it says how far it is.
    """

    stage: Stage
    preset: Preset
    folder: Path
    inputs: dict[str, Path]
    progress: Progress

    @property
    def work(self) -> Path:
        """Scratch that survives a kill and not the sealing."""
        return self.folder / artefacts.WORK


Program = Callable[[StageContext], Facts]


def read_preset(run: Path) -> Preset:
    """The preset a run was started with."""
    try:
        return Preset.model_validate(artefacts.read_json(run / "run.json")["preset"])
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{run} is not a run directory: it has no run.json.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{run / 'run.json'} is damaged or from another version; start anew with --fresh."
        ) from None


def stage_folder(run: Path, name: str) -> Path:
    """Where a stage's output lives."""
    return run / "stages" / name


def input_folder(run: Path, preset: Preset, role: str, source: str) -> Path:
    """The folder a stage reads for `role`: a checkpoint for model roles, a sealed stage folder otherwise."""
    if role not in MODEL_ROLES:
        return stage_folder(run, source)
    if source == "base":
        from vzero.runtime.checkpoints import resolve

        return resolve(preset.model)
    return stage_folder(run, source) / "checkpoint"


def spec_of(run: Path, preset: Preset, stage: Stage) -> dict[str, Any]:
    """What determines a stage's output: its kind, its config and the content of its inputs.

    Raises:
        InputError: if an input stage is not finished.
    """
    digests = {}
    for role, source in stage.inputs.items():
        if source == "base":
            digests[role] = _base_digest(input_folder(run, preset, role, source))
        elif manifest := artefacts.sealed(stage_folder(run, source)):
            digests[role] = artefacts.content_digest(manifest)
        else:
            raise InputError(
                f"Stage {stage.name} needs {source}, which is not finished; run the plan in order."
            )
    return {"kind": stage.kind, "iteration": stage.iteration, "config": stage.config, "inputs": digests}


def _base_digest(folder: Path) -> str:
    """The content of a base checkpoint, which has no manifest: its bytes, hashed once while they stay."""
    stats = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    state = tuple((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    return _digest_of(folder, state)


@lru_cache(maxsize=8)
def _digest_of(folder: Path, state: tuple[tuple[str, int, int, int], ...]) -> str:
    """`state` is what the answer is remembered by."""
    return artefacts.digest(artefacts.folder_hashes(folder))


def finished(run: Path, preset: Preset, stage: Stage) -> dict[str, Any] | None:
    """The manifest of a stage already done from these very inputs, else None."""
    manifest = artefacts.sealed(stage_folder(run, stage.name))
    if manifest is None or manifest["spec_digest"] != artefacts.digest(spec_of(run, preset, stage)):
        return None
    return manifest


def run_stage(run: Path, name: str, programs: Mapping[str, Program]) -> None:
    """Run one stage to its seal; a finished one is left alone, but for scratch that outlived the seal.

    A killed attempt's folder is resumed when it was made from the same spec and emptied otherwise. Of several
    processes the first does that, while the others wait, and writes the seal.

    Raises:
        InputError: unknown stage, or inputs that are not finished.
    """
    preset = read_preset(run)
    stage = next((one for one in plan(preset) if one.name == name), None)
    if stage is None or stage.kind not in programs:
        raise InputError(f"There is no stage {name!r} for this program in {run}.")
    folder, here = stage_folder(run, name), processes.world()
    owned.refuse_links(folder.parent, below=False)
    owned.refuse_links(folder)
    processes.join()
    if processes.broadcast(lambda: finished(run, preset, stage) is not None):
        if here.first:
            shutil.rmtree(folder / artefacts.WORK, ignore_errors=True)
        return
    spec = _agreed(spec_of(run, preset, stage))
    if here.first:
        _begin(folder, spec)
    processes.wait()
    inputs = {role: input_folder(run, preset, role, source) for role, source in stage.inputs.items()}
    progress = Progress(folder / artefacts.WORK / "progress.jsonl")
    context = StageContext(stage, _share_of(preset, stage, here), folder, inputs, progress)
    start = time.monotonic()
    facts = programs[stage.kind](context)
    if here.first:
        artefacts.seal(folder, spec, {**facts, "seconds": round(time.monotonic() - start, 3)})
        shutil.rmtree(folder / artefacts.WORK)


def _agreed(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec`, which all processes have found.

    Raises:
        InputError: a machine sees another run directory, or another base model.
    """
    if len(set(processes.all_gather_object(artefacts.digest(spec)))) > 1:
        raise InputError(
            "Not all machines see the same inputs; they must share the run directory's file system and have"
            " the same base model."
        )
    return spec


def _begin(folder: Path, spec: dict[str, Any]) -> None:
    """Leave in `folder` what an attempt from the same spec can be resumed from, and nothing else."""
    earlier = folder / artefacts.WORK / scratch.SPEC
    try:
        same = artefacts.read_json(earlier) == spec
    except (*artefacts.ABSENT, ValueError):
        same = False
    if not same:
        owned.remove(folder)
    (folder / artefacts.MANIFEST).unlink(missing_ok=True)
    owned.sweep(folder)
    owned.keep_data(folder / artefacts.WORK)
    artefacts.write_json(earlier, spec)


def _share_of(preset: Preset, stage: Stage, here: World) -> Preset:
    """`preset` with room for thoughts, with the engine that the stage has beside its training or alone, and
    with this process's share of the stage's CPU threads."""
    threads = max(1, preset.engine.threads // here.local_size)
    placed = preset.placed_engine() if stage.kind.startswith("train-") else preset.bulk_engine()
    engine = placed.model_copy(update={"threads": threads})
    return preset.model_copy(update={"engine": engine}).with_thoughts()


def main(programs: Mapping[str, Program], arguments: list[str]) -> int:
    """Run the stage that `arguments` (RUN STAGE) name; the exit code, an expected failure as a sentence."""
    if len(arguments) != 2:
        print("error: a stage program takes a run directory and the name of a stage.", file=sys.stderr)
        return InputError.exit_code
    run, name = Path(arguments[0]), arguments[1]
    try:
        run_stage(run, name, programs)
    except VZeroError as error:
        return _failed(error)
    except PermissionError as error:
        return _failed(InputError(f"{error}; allow it, then run the same command again."))
    except Exception as error:
        if (failure := machine_failure(error, run)) is None:
            raise
        return _failed(failure)
    return 0


def _failed(error: VZeroError) -> int:
    """Say why a stage failed, as a line of its log; the exit code."""
    if os.environ.get("VZERO_DEBUG"):
        traceback.print_exc()
    print(f"error: {escaped(' '.join(str(error).split()))}", file=sys.stderr)
    return error.exit_code
