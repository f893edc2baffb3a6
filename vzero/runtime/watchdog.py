"""Runs one command that must not outlive its owner: `python watchdog.py FD COMMAND…`.

FD is the reading end of a pipe whose other end the owner keeps open and never writes to. When the owner ends,
however it ends, the kernel closes that end, and the whole process group, which this program leads, is killed.
When the watchdog itself is killed, so is the command (PR_SET_PDEATHSIG, Linux). Only the standard library is
imported, for a start within milliseconds. Exits with the command's code, or 128 + its signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def kill_group_at_end_of(descriptor: int) -> None:
    """Wait until the pipe is closed at its other end, then end everything in this group."""
    while os.read(descriptor, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main(descriptor: int, command: list[str]) -> int:
    """Run `command` to its end, or to the owner's."""
    watchdog = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(descriptor)
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != watchdog:
            os._exit(1)
        os.execv(command[0], command)
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # sent to the group: the command gets it too, and is waited for
    threading.Thread(target=kill_group_at_end_of, args=(descriptor,), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
