"""A file of responses made anywhere: one `{"id": ..., "response": ...}` a line, refused where it is not
exactly that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.scoring.items import Item
from vzero.errors import InputError


def read(path: Path, items: Sequence[Item]) -> dict[str, str]:
    """Response by item id, in the order of the file. An id may be a number; other keys of a line are ignored.

    Raises:
        InputError: an unreadable or empty file, a malformed line, a missing or non-text response, an unknown
            id or one that occurs twice.
    """
    known = {item.id for item in items}
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, response = _row(path, number, line)
        if name not in known:
            raise InputError(
                f"Line {number} of {path} answers {name[:60]!r}, which the suite does not have; check --suite and the ids."
            )
        if name in found:
            raise InputError(f"Line {number} of {path} answers {name[:60]!r} again; keep one response an id.")
        found[name] = response
    if not found:
        raise InputError(f'{path} holds no response; give one {{"id": ..., "response": ...}} a line.')
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"Cannot read the responses {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); write the responses as JSON lines in UTF-8."
        ) from None


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(
            f'Line {number} of {path} is not JSON; give one {{"id": ..., "response": ...}} a line.'
        ) from None
    if not isinstance(row, Mapping) or "id" not in row:
        raise InputError(
            f'Line {number} of {path} has no "id"; give one {{"id": ..., "response": ...}} a line.'
        )
    name = row["id"]
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError(
            f'The "id" in line {number} of {path} is neither text nor a number; give the id the suite has.'
        )
    if not isinstance(row.get("response"), str):
        raise InputError(
            f'Line {number} of {path} ({str(name)[:60]!r}) has no "response" text; leave the line out, or give what was answered.'
        )
    return str(name), row["response"]
