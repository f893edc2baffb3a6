"""The folder of an evaluation: created or resumed when it belongs to the same settings, refused otherwise.

run.json (settings, where from), items/<suite>.jsonl (what is asked and its gold), pins/<suite>.json (digests
of the rows), responses/<suite>.jsonl, lmms_eval/<suite>.json (its own numbers), decontamination.json where
asked for, results.json, results.md, items.scored.jsonl. `work/` and `data/` can be made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.runs import lock, place
from vzero.errors import InputError
from vzero.presets import differences
from vzero.runtime import artefacts

RUN_FILE = place.RECORD
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
        InputError: not an evaluation's folder, other settings, somebody else works in it, or it cannot be
            written.
    """
    place.ready(folder, "the folder of an evaluation", read)
    with lock.hold(folder):
        if fresh:
            place.empty(folder, CONTENT)
        if (folder / RUN_FILE).exists():
            _refuse_others(folder, settings)
        else:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            artefacts.write_json(
                folder / RUN_FILE,
                {"evaluation": settings, "created": created, "provenance": artefacts.provenance()},
            )
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
    raise InputError(
        f"{folder} is not the folder of an evaluation (no {RUN_FILE} of one); give the --out of an earlier `evaluate`."
    )


def _refuse_others(folder: Path, settings: dict[str, Any]) -> None:
    changed = differences(read(folder)["evaluation"], settings)
    if changed:
        raise InputError(
            f"{folder} holds an evaluation with other settings ({', '.join(changed)}); "
            "repeat the old ones to resume it, start anew with --fresh, or choose another --out."
        )
