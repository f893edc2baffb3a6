"""The folder that a command writes into: new, empty, or left by an earlier attempt with the same settings.

Anything else is refused untouched. One process works in it at a time: the operating system holds the lock,
which dies with its holder, so none is ever stale.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vzero.errors import InputError, escaped, machine_failure
from vzero.presets import differences
from vzero.runtime import artefacts, owned

RECORD = "run.json"  # what a folder is of, and from which settings; written first, deleted last
LOCK = ".lock"
LOCK_TIMEOUT = 3.0  # seconds; the stage of a runner that was just killed needs a moment to die and let go
Settings = Mapping[str, Any]


class Busy(InputError):
    """Another process works in the folder."""


@dataclass(frozen=True)
class FolderKind:
    """What one command's folders are.

    Attributes:
        what, holds: in words, for refusals: "a run directory", "a run".
        section: key of the settings in the record.
        content: all that the command writes, beside the record; `--fresh` deletes nothing else.
        sealed: what of it says itself from which settings it is, so that it outlives a damaged record.
        signs: patterns of files that no other folder has; such a one is known by them without its record.
    """

    what: str
    holds: str
    section: str
    content: tuple[str, ...]
    sealed: tuple[str, ...]
    signs: tuple[str, ...]

    def tidy(self, folder: Path) -> None:
        """Remove what killed writes left in such a folder, which is locked.

        Raises:
            InputError: there is a link among its content.
        """
        names = (RECORD, *self.content)
        owned.refuse_links(*(folder / name for name in names))
        owned.sweep_beside(folder, names)
        for name in self.content:
            owned.sweep(folder / name)

    def read(self, folder: Path) -> dict[str, Any]:
        """The record of such a folder.

        Raises:
            InputError: it has none.
        """
        try:
            stored = artefacts.read_json(folder / RECORD)
            if isinstance(stored, dict) and isinstance(stored.get(self.section), dict):
                return stored
        except (ValueError, OSError) as error:
            if failure := machine_failure(error, folder / RECORD):
                raise failure from None  # a record that cannot be read now is not damaged
        raise InputError(
            f"{folder} is not {self.what} (no {RECORD} of one); give one, or choose another --out."
        )


@dataclass(frozen=True)
class OpenFolder:
    """A locked folder: where, the lock's descriptor, and whether this opening created it."""

    folder: Path
    lock: int
    created: bool


@contextmanager
def opened(
    folder: Path,
    kind: FolderKind,
    settings: Settings,
    fresh: bool,
    changed: Callable[[Settings, Settings], Sequence[str]] = differences,
) -> Iterator[OpenFolder]:
    """Create or resume the work in `folder` and hold its lock.

    Args:
        settings: all that determines the result, as JSON values.
        fresh: delete what an earlier attempt left first.
        changed: of (stored, wanted) settings, the names of those that forbid a resume.

    Raises:
        InputError: it holds something else, or other settings, another process works in it, or it cannot be
            written.
    """
    prepare(folder, kind.what, RECORD, kind.read, kind.signs)
    if _foreign(folder / RECORD, kind.section):
        kind.read(folder)  # says so; neither --fresh nor a repair touches what is another program's
    with locked(folder) as lock:
        for name in (*kind.content, RECORD) if fresh else ():
            owned.remove(folder / name)
        kind.tidy(folder)
        if set_aside_damaged(folder / RECORD, lambda: kind.read(folder)):
            for name in frozenset(kind.content) - frozenset(kind.sealed):
                owned.remove(folder / name)
        created = not (folder / RECORD).exists()
        if created:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record = {kind.section: settings, "created": now, "provenance": artefacts.provenance()}
            artefacts.write_json(folder / RECORD, record)
        elif names := changed(kind.read(folder)[kind.section], settings):
            raise InputError(
                f"{folder} holds {kind.holds} with other settings ({', '.join(names)}); "
                "repeat the old ones to resume it, start anew with --fresh, or choose another --out."
            )
        yield OpenFolder(folder, lock, created)


def _foreign(record: Path, section: str) -> bool:
    """Whether it is whole and holds something else."""
    try:
        stored = artefacts.read_json(record)
    except (ValueError, OSError):
        return False
    return isinstance(stored, dict) and bool(stored) and section not in stored


def set_aside_damaged(record: Path, read: Callable[[], object]) -> bool:
    """Whether `record` was there and could not be read: then it has another name now, so that it is made
    anew."""
    try:
        if record.exists():
            read()
        return False
    except InputError:
        if record.is_symlink() or not record.is_file():
            raise
        aside = record.with_name(f"{record.name}.damaged")
        os.replace(record, aside)
        said = f"note: {record} cannot be read; it is now {aside.name}, and is made anew."
        print(escaped(said), file=sys.stderr)
        return True


def prepare(
    folder: Path, what: str, record: str, read: Callable[[Path], object], signs: Sequence[str]
) -> None:
    """Make sure that `folder` is there and may be written into.

    Args:
        what: what it should be, for the refusal.
        record: a file that every such folder has.
        read: raises unless the record in the folder is of such a one.
        signs: patterns; where one matches, it is such a folder all the same, its record damaged or lost.

    Raises:
        InputError: it holds something else, is no folder, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in folder.iterdir()]
    except FileExistsError:
        raise InputError(f"{folder} is a file, not a folder; choose another --out.") from None
    except OSError as error:
        if error.errno != errno.EROFS and (failure := machine_failure(error, folder)):
            raise failure from None
        verb = "read" if folder.is_dir() else "create"
        raise InputError(f"Cannot {verb} {folder}: {error.strerror}; choose another --out.") from None
    if any(next(folder.glob(sign), None) for sign in signs):
        return
    if record in names:
        read(folder)
    elif any(name != LOCK and not name.startswith(f".{record}.") for name in names):
        raise InputError(f"{folder} is not empty and not {what} (no {record}); choose another --out.")


@contextmanager
def locked(folder: Path, timeout: float | None = None) -> Iterator[int]:
    """Hold the lock of `folder`, which exists; gives its open descriptor.

    Child processes that inherit the descriptor hold the lock too, so that a stage which outlived its runner
    keeps a second run out.

    Args:
        timeout: seconds to wait for another holder; default: `LOCK_TIMEOUT`.

    Raises:
        Busy: another process holds it.
        InputError: the folder cannot be written or locked.
    """
    try:
        descriptor = owned.open_own(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        refused = InputError(f"Cannot write in {folder}: {error.strerror}; choose another --out.")
        raise machine_failure(error, folder) or refused from None
    try:
        _lock(descriptor, folder, time.monotonic() + (LOCK_TIMEOUT if timeout is None else timeout))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether a process works in `folder`: it holds the lock. Asking takes a shared lock for an instant,
    which nobody who waits for the lock notices."""
    try:
        with open(owned.open_own(folder / LOCK), "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock(descriptor: int, folder: Path, give_up: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= give_up:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise Busy(
                    f"Another run (process {holder}) is working in {folder}; "
                    "wait for it or choose another --out."
                ) from None
            time.sleep(0.1)
        except OSError as error:
            raise InputError(
                f"The file system of {folder} cannot lock files ({error.strerror}); choose another --out."
            ) from None
