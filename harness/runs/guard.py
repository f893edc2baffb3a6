"""Runs one command and makes sure that it does not outlive the runner: `python guard.py RUNNER_PID COMMAND…`.

The runner starts this file as the leader of a new process group. When the runner dies, however it dies, the
kernel sends SIGUSR1 here (PR_SET_PDEATHSIG, Linux), and the whole group, grandchildren too, is killed. When
the guard itself is killed, its child is killed with it. Only the standard library is imported, for a start
within milliseconds. Exits with the command's code, or 128 + its signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for signal `number` when `parent` ends; if it ended already, act at once."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.killpg(0, signal.SIGKILL)


def kill_group(number: int, frame: FrameType | None) -> None:
    """Signal handler: end everything in this group, the guard included."""
    os.killpg(0, signal.SIGKILL)


def main(runner: int, command: list[str]) -> int:
    """Run `command` to its end."""
    signal.signal(signal.SIGUSR1, kill_group)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(
            number, lambda *_: None
        )  # sent to the group, so the command gets it too; the guard waits for the command
    die_with_parent(signal.SIGUSR1, runner)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(signal.SIGKILL, guard)
        os.execv(command[0], command)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
