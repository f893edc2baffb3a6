"""Errors a user can fix: each carries one sentence that says what is wrong and what to do about it."""

from __future__ import annotations

import errno

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


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
