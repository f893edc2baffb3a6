"""Which of a killed trainer's checkpoints are whole.

Hugging Face's trainer writes a checkpoint file by file into its final folder, so a kill can leave half of
one. A marker with the size of every file, written after all of them are synced, tells a whole checkpoint from
a torn one. On a network file system the first node may see another's file (its random states) a moment late;
it is then no part of the marker, and no harm.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from vzero.runtime import artefacts, processes

MARKER = "complete.json"


class MarkWhole(TrainerCallback):
    """Marks each checkpoint after the trainer has written it."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer once every file of this process is there."""
        processes.wait()  # others have files of their own (random states)
        if state.is_world_process_zero:
            mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")


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
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != MARKER and path.suffix != ".tmp")


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
