"""The folder that a command writes into: new, empty, or left by an earlier attempt of the same kind. Anything
else is refused untouched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.runs import lock
from vzero.errors import FULL_DISK, InputError

RECORD = "run.json"  # says what a folder is of, and from which settings; written first, deleted last


def ready(folder: Path, what: str, read: Callable[[Path], Any]) -> None:
    """Make sure that `folder` is there and may be written into.

    Args:
        what: what it should be, for the refusal: "a run directory".
        read: raises unless the record in the folder is of such a one.

    Raises:
        InputError: it holds something else, is no folder, or cannot be made.
    """
    _refuse_foreign(folder, what, read)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is a file, not a folder; choose another --out.") from None
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        raise InputError(f"Cannot create {folder}: {error.strerror}; choose another --out.") from None


def _refuse_foreign(folder: Path, what: str, read: Callable[[Path], Any]) -> None:
    """A folder with anything in it must have the record; the harness never writes into, or deletes from,
    another."""
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"Cannot read {folder}: {error.strerror}; choose another --out.") from None
    if RECORD in names:
        read(folder)
    elif any(name != lock.NAME and not name.startswith(f".{RECORD}.") for name in names):
        raise InputError(f"{folder} is not empty and not {what} (no {RECORD}); choose another --out.")


def empty(folder: Path, content: Sequence[str]) -> None:
    """Delete `content`, the names of what a command writes, in this order; the rest of `folder` is left
    alone."""
    for name in content:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
