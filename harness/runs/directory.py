"""Opening a run directory: a new one is created, an old one is resumed when it belongs to the same config,
anything else is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.runs import ledger, lock, place
from vzero.config import Preset
from vzero.errors import InputError
from vzero.presets import content_differences, differences
from vzero.runtime import artefacts

RUN_FILE = place.RECORD
# Everything a run writes. `run.json` is last: while it is there, a deletion that was interrupted can still be
# seen to be of a run.
CONTENT = ("results.json", "report.md", "report.html", "stages", "logs", "nodes", ledger.NAME, RUN_FILE)


@dataclass(frozen=True)
class OpenRun:
    """A locked run directory: where, the lock's descriptor, and whether this opening created it."""

    folder: Path
    lock: int
    created: bool


@contextmanager
def opened(folder: Path, preset: Preset, command: str, fresh: bool = False) -> Iterator[OpenRun]:
    """Create or resume the run in `folder` and hold its lock.

    Args:
        command: recorded in the ledger.
        fresh: delete what an earlier run left in `folder` first; whatever a run does not write is left alone.

    Raises:
        InputError: not a run directory, another config, another run working in it, or not writable.
    """
    place.ready(folder, "a run directory", _read)
    with lock.hold(folder) as descriptor:
        if fresh:
            place.empty(folder, CONTENT)
        created = not (folder / RUN_FILE).exists()
        if created:
            _create(folder, preset)
        else:
            _refuse_other_config(folder, preset)
        ledger.append(folder, {"event": "run-started" if created else "run-resumed", "command": command})
        yield OpenRun(folder, descriptor, created)


def _read(folder: Path) -> dict[str, Any]:
    try:
        stored = artefacts.read_json(folder / RUN_FILE)
        if isinstance(stored, dict) and isinstance(stored.get("preset"), dict):
            return stored
    except (ValueError, OSError):
        pass
    raise InputError(f"{folder / RUN_FILE} is not the record of a run; choose another --out.")


def _create(folder: Path, preset: Preset) -> None:
    artefacts.write_json(
        folder / RUN_FILE,
        {
            "preset": preset.model_dump(mode="json"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "provenance": artefacts.provenance(),
        },
    )


def _refuse_other_config(folder: Path, preset: Preset) -> None:
    record, wanted = _read(folder), preset.model_dump(mode="json")
    stored = record["preset"]
    with suppress(ValidationError):  # a run from before some setting existed has it at its default
        stored = Preset.model_validate(stored).model_dump(mode="json")
    changed = content_differences(stored, wanted)
    if changed:
        raise InputError(
            f"{folder} holds a run with other settings ({', '.join(changed)}); "
            "repeat the old ones to resume it, start anew with --fresh, or choose another --out."
        )
    if differences(stored, wanted):  # only where servers are, and the like: the stages to come read it here
        artefacts.write_json(folder / RUN_FILE, {**record, "preset": wanted})
