"""The folder of an evaluation: created or resumed when it belongs to the same settings, refused otherwise.

run.json (settings, where from), items/<suite>.jsonl (what is asked and its gold), pins/<suite>.json (digests of the rows),
responses/<suite>.jsonl, lmms_eval/<suite>.json (its own numbers), decontamination.json where asked for, results.json, results.md,
items.scored.jsonl. `work/` and `data/` can be made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.run import lock
from vzero import artefacts
from vzero.errors import FULL_DISK, InputError
from vzero.presets import differences

RUN_FILE = "run.json"
CONTENT = (
    "results.json",
    "results.md",
    "items.scored.jsonl",
    "decontamination.json",
    "extractions.jsonl",
    "against.json",
    "responses",
    "lmms_eval",
    "items",
    "pins",
    "data",
    "work",
    RUN_FILE,
)


@contextmanager
def opened(folder: Path, settings: dict[str, Any], fresh: bool) -> Iterator[None]:
    """Create or resume the evaluation in `folder` and hold its lock.

    Args:
        settings: all that determines the result, as JSON values.
        fresh: delete what an earlier evaluation left first.

    Raises:
        InputError: not an evaluation's folder, other settings, somebody else works in it, or it cannot be written.
    """
    _refuse_foreign(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        raise InputError(f"Cannot create {folder}: {error.strerror}; choose another --out.") from None
    with lock.hold(folder):
        if fresh:
            _empty(folder)
        if (folder / RUN_FILE).exists():
            _refuse_others(folder, settings)
        else:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            artefacts.write_json(folder / RUN_FILE, {"evaluation": settings, "created": created, "provenance": artefacts.provenance()})
        yield


def read(folder: Path) -> dict[str, Any]:
    """The run.json of an evaluation.

    Raises:
        InputError: `folder` is not one.
    """
    try:
        stored = artefacts.read_json(folder / RUN_FILE)
        if isinstance(stored, dict) and isinstance(stored.get("evaluation"), dict):
            return stored
    except (ValueError, OSError):
        pass
    raise InputError(f"{folder} is not the folder of an evaluation (no {RUN_FILE} of one); give the --out of an earlier `evaluate`.")


def _refuse_foreign(folder: Path) -> None:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"Cannot read {folder}: {error.strerror}; choose another --out.") from None
    if RUN_FILE in names:
        read(folder)
    elif any(name != lock.NAME and not name.startswith(f".{RUN_FILE}.") for name in names):
        raise InputError(f"{folder} is not empty and not the folder of an evaluation; choose another --out.")


def _refuse_others(folder: Path, settings: dict[str, Any]) -> None:
    changed = differences(read(folder)["evaluation"], settings)
    if changed:
        raise InputError(
            f"{folder} holds an evaluation with other settings ({', '.join(changed)}); "
            "repeat the old ones to resume it, start anew with --fresh, or choose another --out."
        )


def _empty(folder: Path) -> None:
    for name in CONTENT:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
