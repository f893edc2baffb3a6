"""Errors a user can fix: each carries one sentence that says what is wrong and what to do about it."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path

# What a disk says that is full, broken or was taken away. It may pass: whoever fixes it resumes.
DISK_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


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


def disk_failure(error: OSError, place: str | Path) -> InterruptedRun:
    """The sentence of one of `DISK_FAILURES`, met at `place` or at the file that the error names."""
    where = error.filename or place
    if error.errno in (errno.EIO, errno.EROFS):
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
