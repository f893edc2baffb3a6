"""Pins: the digest of every row of a suite, by id, so that changed data is refused and named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.evals.catalogue import Suite
from vzero.errors import InputError
from vzero.runtime import artefacts

SHOWN = 3  # changed rows that a message names
Digests = Mapping[str, str]


def file(data: Path, suite: Suite) -> Path:
    """Where the pins of a suite live in a data folder."""
    return data / f"{suite.name}.pins.json"


def check(suite: Suite, ours: Digests, pinned: Digests | None) -> None:
    """Refuse rows that differ from their pins.

    Raises:
        InputError: rows are changed, missing or new; the first few are named.
    """
    if pinned is None or ours == pinned:
        return
    names = [key for key in {**pinned, **ours} if ours.get(key) != pinned.get(key)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise InputError(
        f"Rows of {suite.name} are not the ones that were pinned: {', '.join(names[:SHOWN])}{more}; "
        "restore the data, or pin it anew (`fetch`, and another --out)."
    )


def read(path: Path) -> Digests | None:
    """The pins in a file; None where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        rows = artefacts.read_json(path)["rows"]
        if isinstance(rows, dict):
            return rows
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path} is not a file of pins; fetch the suite again.")


def write(path: Path, suite: Suite, rows: Digests, source: Mapping[str, str | None]) -> None:
    """Pin the rows as they are; `source` says where they came from."""
    about = {"suite": suite.name, "dataset": suite.dataset, **source}
    artefacts.write_json(path, {**about, "rows": dict(rows)})
