"""What a killed training resumes from: when it is written, and which of it is whole.

Generations are expensive and checkpoints large (12 bytes a trained weight), so they are written by the clock,
at the end of a generation batch, since rollouts are not saved; and never after the last, whose weights the
stage keeps. Hugging Face's trainer writes file by file into the final folder, so a kill can leave half of a
checkpoint. A marker, written after all of them are synced, holds the hash of every file, and how far the
stage's own rows had come, with their hash, and of which stage it is. What does not match is not there:
training goes on from the checkpoint before, of which one is kept, or begins anew. On a network file system
the first node may see another's file (its random states) a moment late; it is then no part of the marker, and
no harm.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vzero.runtime import artefacts, owned, processes, scratch

MARKER = "complete.json"
_READ = (".safetensors", ".pth", ".json")  # Hugging Face's trainer writes pickles too


class Marker(BaseModel):
    """A whole checkpoint: SHA-256 of its files by name, and of what its stage is made from; of the rows so
    far, by file, bytes and their SHA-256."""

    files: dict[str, str]
    spec: str = ""
    rows: dict[str, tuple[int, str]] = {}


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
    """Asks the trainer for a checkpoint when it is time, and marks it when it is written.

    Args:
        rows: the files that the stage has appended to by then.
    """

    def __init__(self, minutes: float, steps_per_generation: int, rows: Sequence[Path]) -> None:
        self._timer, self._steps, self._rows = Timer(minutes), steps_per_generation, rows

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """After the optimizer has stepped."""
        whole = state.global_step % self._steps == 0 and state.global_step < state.max_steps
        control.should_save = whole and self._timer.due()
        if control.should_save and state.is_world_process_zero:
            keep_newest(Path(str(args.output_dir)))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer once every file of this process is there."""
        processes.wait()  # others have files of their own
        if state.is_world_process_zero:
            mark(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", self._rows)


def mark(folder: Path, rows: Sequence[Path] = ()) -> None:
    """Sync every file of `folder`, then write the marker."""
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    so_far = {path.name: owned.read_bytes(path) for path in rows}
    marker = Marker(
        files=_hashes(folder),
        spec=scratch.made_for(folder.parents[1]),
        rows={name: (len(data), _sha256(data)) for name, data in so_far.items()},
    )
    artefacts.write_json(folder / MARKER, marker.model_dump(mode="json"))


def keep_newest(output: Path) -> None:
    """Make room for another checkpoint below `output`."""
    for older in sorted(output.glob("checkpoint-*"), key=_step)[:-1]:
        owned.remove(older)


def last_whole(output: Path, rows: Sequence[Path] = ()) -> tuple[Path, int] | None:
    """The newest whole checkpoint below `output` and its optimizer step; torn and damaged ones, and any
    newer, are deleted."""
    for path in sorted(output.glob("checkpoint-*"), key=_step, reverse=True):
        if not (wrong := _wrong(path, rows)):
            return path, _step(path)
        if (path / MARKER).exists():  # else it was torn by a kill
            scratch.note(f"{path.name} is damaged ({wrong}); training goes on from the one before, or anew")
        owned.remove(path)
    return None


def rewind(checkpoint: Path | None, rows: Sequence[Path]) -> None:
    """Take out of `rows` what was appended after a whole checkpoint; everything, where there is none."""
    kept = {} if checkpoint is None else _marker(checkpoint).rows
    for path in rows:
        size = kept[path.name][0] if path.name in kept else 0
        artefacts.write_bytes(path, owned.read_bytes(path)[:size] if size else b"")


def _wrong(checkpoint: Path, rows: Sequence[Path]) -> str:
    """What of a checkpoint, or of the rows up to it, is not as it was marked; empty where nothing is."""
    try:
        marker = _marker(checkpoint)
    except (*artefacts.ABSENT, ValueError):
        return MARKER
    if marker.spec != scratch.made_for(checkpoint.parents[1]):
        return "of another training"
    found = _hashes(checkpoint)
    for path in rows:
        size, digest = marker.rows.get(path.name, (0, ""))
        if not path.exists() or _sha256(owned.read_bytes(path)[:size]) != digest:
            return path.name
    return next((name for name, digest in marker.files.items() if found.get(name) != digest), "")


def _marker(checkpoint: Path) -> Marker:
    return Marker.model_validate_json(owned.read_bytes(checkpoint / MARKER))


def _step(path: Path) -> int:
    tail = path.name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _files(folder: Path) -> list[Path]:
    """What training resumes from: states, random states, the trainer's counters."""
    found = (path for path in folder.iterdir() if path.is_file())
    return sorted(path for path in found if path.name != MARKER and path.suffix in _READ)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, several at once: they may be large, and a training waits."""
    files = _files(folder) if folder.is_dir() else []
    with ThreadPoolExecutor(4) as pool:
        return dict(zip([path.name for path in files], pool.map(artefacts.sha256_file, files), strict=True))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
