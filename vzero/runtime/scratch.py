"""What an attempt leaves for the next one to go on from. Of rows that are appended, each carries a digest of
itself: one that does not match counts as not there and is made anew, and a line of the log says so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vzero.runtime import artefacts, owned

_CHECK = "check"
SPEC = "spec.json"  # in a stage's scratch: what the stage is made from
NOTE = "note: "  # how a line of a stage's log begins that its user is shown


def append(path: Path, *rows: Mapping[str, Any], sync: bool = True) -> None:
    """As `artefacts.append_jsonl`, each row with its digest."""
    artefacts.append_jsonl(path, *map(_marked, rows), sync=sync)


def recover(
    path: Path, whole: Callable[[Mapping[str, Any]], bool], unmarked: bool = False
) -> list[dict[str, Any]]:
    """The rows that are as they were appended, without their digests; the others are taken out of the file.

    Args:
        whole: of a row, whether it has all that it must have.
        unmarked: rows without a digest, of earlier versions, count too.
    """
    if not path.exists():
        return []
    *lines, _ = owned.read_bytes(path).split(b"\n")  # the last was torn by a kill
    found = [row for line in lines if (row := row_of(line, unmarked)) is not None and whole(row)]
    if damaged := sum(map(bool, lines)) - len(found):
        note(f"{damaged} rows of {path.name} are damaged; they are made anew")
        artefacts.write_jsonl(path, map(_marked, found))
    return found


def row_of(line: bytes, unmarked: bool) -> dict[str, Any] | None:
    """A row without its digest; None where it does not match."""
    try:
        row = artefacts.parse_json(line)
        digest = row.pop(_CHECK, None if unmarked else "")
        return row if digest in (_digest(row), None) else None
    except (ValueError, AttributeError, TypeError):
        return None


def made_for(work: Path) -> str:
    """SHA-256 of what the stage with this scratch is made from, by which another's scratch is known; empty
    where nothing says it."""
    path = work / SPEC
    return artefacts.sha256_file(path) if path.exists() else ""


def note(text: str) -> None:
    """Say something to whoever runs the stage. On stdout a command may have its result."""
    print(NOTE + text, file=sys.stderr, flush=True)


def _marked(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, _CHECK: _digest(row)}


def _digest(row: Mapping[str, Any]) -> str:
    return artefacts.digest(dict(row))[:16]
