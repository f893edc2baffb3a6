"""Errors a user can fix: each carries one sentence that says what is wrong and what to do about it."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path

# What a disk says that is full, broken or was taken away. It may pass: whoever fixes it resumes.
DISK_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE})


class VZeroError(Exception):
    """A failure with a message meant for the user. `exit_code` follows the command line's contract."""

    exit_code = 1


class InputError(VZeroError):
    """Wrong use or bad input: an unknown key, an unreadable folder, a run that belongs to another config."""

    exit_code = 2


class InterruptedRun(VZeroError):
    """Stopped from outside (Ctrl-C, SIGTERM, a full disk); the same command resumes."""

    exit_code = 75


class RolloutError(VZeroError):
    """An engine could not answer. Never turned into a reward or a score."""


# What the kernel says where an account or a machine has used up what it may have.
_USED_UP = {
    errno.EAGAIN: "start no more threads or processes (ulimit -u)",
    errno.EMFILE: "open no more files (ulimit -n)",
    errno.ENFILE: "open no more files (fs.file-max)",
    errno.ENOMEM: "have no more memory",
}
# The same of threads, as libraries say it: Python, libgomp, OpenBLAS and pthreads, rayon.
NO_THREADS = ("can't start new thread", "Thread creation failed", "pthread_create", "ThreadPoolBuildError")


def machine_failure(error: BaseException, place: str | Path) -> InterruptedRun | None:
    """The sentence of a failure that is the machine's, whatever was read or written at `place`, also where
    another error came of it; None of any other, also where a sentence was found for it before. It may pass:
    whoever sees to it resumes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InterruptedRun):
            return cause
        if isinstance(cause, VZeroError):
            return None
        if isinstance(cause, OSError) and cause.errno in DISK_FAILURES:
            return disk_failure(cause, place)
        if isinstance(cause, OSError) and cause.errno in _USED_UP:
            return used_up(cause.errno)
        if isinstance(cause, RuntimeError) and NO_THREADS[0] in str(cause):
            return used_up(errno.EAGAIN)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def used_up(number: int = errno.EAGAIN) -> InterruptedRun:
    """The sentence of one of `_USED_UP`."""
    return InterruptedRun(
        f"This account or container may {_USED_UP[number]}; end other programs or raise the limit, then run "
        "the same command again to resume."
    )


def disk_failure(error: OSError, place: str | Path) -> InterruptedRun:
    """The sentence of one of `DISK_FAILURES`, met at `place` or at the file that the error names."""
    where = error.filename or place
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return InterruptedRun(
            f"The disk of {where} failed ({error.strerror}); see that it is sound and can be written, then "
            "run the same command again to resume."
        )
    return InterruptedRun(
        f"No space left on the disk ({where}); free some, then run the same command again to resume."
    )


def escaped(text: str, keep: str = "\n") -> str:
    """Text that somebody else wrote, fit for a terminal, a log or a table: control, bidirectional and
    surrogate characters and line separators as escapes, those in `keep` as they are."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSAFE else ascii(c)[1:-1] for c in text)


_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
