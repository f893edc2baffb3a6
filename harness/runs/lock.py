"""One worker per run directory, enforced by the operating system: the lock dies with its holder, so none is
ever stale."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vzero.errors import InputError

NAME = ".lock"
PATIENCE = 3.0  # seconds; the stage of a runner that was just killed needs a moment to die and let go


class Busy(InputError):
    """Another process works there; `pid` is its number as it wrote it down."""

    def __init__(self, message: str, pid: str) -> None:
        super().__init__(message)
        self.pid = pid


@contextmanager
def hold(run: Path, patience: float = PATIENCE) -> Iterator[int]:
    """Hold the lock of `run`, whose folder exists; gives the open descriptor. `patience`: seconds to wait for
    another holder.

    Child processes that inherit the descriptor hold the lock too, so that a stage which outlived its runner
    keeps a second run out.

    Raises:
        Busy: another process holds it.
        InputError: the folder cannot be written or locked.
    """
    try:
        descriptor = os.open(run / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"Cannot write in {run}: {error.strerror}; choose another --out.") from None
    try:
        _take(descriptor, run, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, run: Path, patience: float) -> None:
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < give_up:
                time.sleep(0.1)
                continue
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Busy(
                f"Another run (process {holder}) is working in {run}; wait for it or choose another --out.",
                holder,
            ) from None
        except OSError as error:
            raise InputError(
                f"The file system of {run} cannot lock files ({error.strerror}); choose another --out."
            ) from None
