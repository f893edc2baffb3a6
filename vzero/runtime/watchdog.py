"""Runs one command that must not outlive its owner: `python watchdog.py OWNER_PID COMMAND…`.

The owner starts this file as the leader of a process group of its own. When the owner ends, however it ends,
the whole group is killed, grandchildren too. When the watchdog itself is killed, so is the command
(PR_SET_PDEATHSIG, Linux). Only the standard library is imported, for a start within milliseconds. Exits with
the command's code, or 128 + its signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

POLL = 0.1  # seconds between two looks at the owner
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def watchdog_command(command: list[str]) -> list[str]:
    """`command` under a watchdog whose owner is this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def kill_group_after(owner: int) -> None:
    """Wait until `owner` has ended, then kill everything in this group.

    The kernel could signal the owner's death (PR_SET_PDEATHSIG), but it would do so already when the *thread*
    that started this process ends.
    """
    while os.getppid() == owner:
        time.sleep(POLL)
    os.killpg(0, signal.SIGKILL)


def end_with(parent: int) -> None:
    """Have this process killed when the thread of its `parent` that forked it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)


def guard(owner: int, command: Callable[[], None]) -> int:
    """Run `command` in a child to its end, or to the owner's; this process leads the group that it is in.

    Returns:
        Its exit code, or 128 + its signal; to the child, which it leaves by whatever `command` raises, 0.
    """
    for number in STOPS:  # they reach the whole group: the command acts on them, and is waited for
        signal.signal(number, lambda *_: None)
    watchdog = os.getpid()
    child = os.fork()
    if child == 0:
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)
        end_with(watchdog)
        command()
        return 0
    threading.Thread(target=kill_group_after, args=(owner,), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    words = sys.argv[2:]
    sys.exit(guard(int(sys.argv[1]), lambda: os.execv(words[0], words)))
