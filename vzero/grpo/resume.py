"""What a killed training resumes from: when it is written, and which of it is whole.

Generations are expensive and checkpoints large (12 bytes a trained weight), so they are written by the clock,
at the end of a generation batch, since rollouts are not saved; and never after the last, whose weights the
stage keeps. Hugging Face's trainer writes file by file into the final folder, so a kill can leave half of a
checkpoint. A marker with the size of every file, written after all of them are synced, tells a whole one from
a torn one. On a network file system the first node may see another's file (its random states) a moment late;
it is then no part of the marker, and no harm.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vzero.runtime import artefacts, processes

MARKER = "complete.json"
_READ = (
    ".safetensors",
    ".pth",
    ".json",
)  # Hugging Face's trainer writes pickles too


class Timer:
    """Whether it is time to save, by the first process's clock; all must ask."""

    def __init__(self, minutes: float) -> None:
        self._seconds, self._last = 60 * minutes, time.monotonic()

    def due(self) -> bool:
        """True, and from now on false again for so many minutes."""
        due = processes.broadcast(lambda: time.monotonic() - self._last >= self._seconds)
        if due:
            self._last = time.monotonic()
        return due


class Checkpoints(TrainerCallback):
    """Asks the trainer for a checkpoint when it is time, and marks it when it is written."""

    def __init__(self, minutes: float, steps_per_generation: int) -> None:
        self._timer, self._steps = Timer(minutes), steps_per_generation

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """After the optimizer has stepped."""
        whole = state.global_step % self._steps == 0 and state.global_step < state.max_steps
        control.should_save = whole and self._timer.due()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer once every file of this process is there; older checkpoints then go."""
        processes.wait()  # others have files of their own
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        mark(folder)
        for older in set(folder.parent.glob("checkpoint-*")) - {folder}:
            shutil.rmtree(older)


def mark(folder: Path) -> None:
    """Sync every file of `folder`, then write the marker."""
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    artefacts.write_json(folder / MARKER, _sizes(folder))


def last_whole(output: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint below `output` and its optimizer step; torn ones, and any newer, are
    deleted."""
    for path in sorted(output.glob("checkpoint-*"), key=_step, reverse=True):
        marker = path / MARKER
        if marker.exists() and artefacts.read_json(marker).items() <= _sizes(path).items():
            return path, _step(path)
        shutil.rmtree(path)
    return None


def _step(path: Path) -> int:
    tail = path.name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _files(folder: Path) -> list[Path]:
    """What training resumes from: states, random states, the trainer's counters."""
    found = (path for path in folder.iterdir() if path.is_file())
    return sorted(path for path in found if path.name != MARKER and path.suffix in _READ)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
