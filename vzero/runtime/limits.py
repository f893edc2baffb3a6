"""Limits of processor time and memory, for work whose cost a stranger's file decides."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

_CLOCK = 30  # wall seconds for each of processor time: a busy machine is no endless loop
_WITHOUT_END, _UNLIMITED = 1, 2  # how the fork of `ends` exits


def limit(seconds: int, memory: int) -> None:
    """From now on this process may use so much more processor time, and so many more bytes of memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _set(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def lift_memory_limit() -> None:
    """As much memory again as the machine gives."""
    _set(resource.RLIMIT_AS, resource.RLIM_INFINITY)


def _set(kind: int, soft: int) -> None:
    hard = resource.getrlimit(kind)[1]
    within = soft if hard == resource.RLIM_INFINITY else hard if soft < 0 else min(soft, hard)
    resource.setrlimit(kind, (within, hard))


def _tried(work: Callable[[], object]) -> int:
    try:
        work()
    except MemoryError:
        return _WITHOUT_END
    except Exception:
        return 0
    return 0


def ends(work: Callable[[], object], seconds: int, memory: int) -> bool:
    """Whether `work` ends within these limits, by an exception or without: tried in a fork of this process,
    so that nothing changes here. A fork that waits for what never comes is ended by the clock.

    Raises:
        OSError: the machine gives no process, or does not let the limits be set.
    """
    child = os.fork()
    if child == 0:
        code = _UNLIMITED
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            signal.alarm(_CLOCK * seconds)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit(seconds, memory)
            code = _WITHOUT_END  # also for SystemExit and KeyboardInterrupt
            code = _tried(work)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _UNLIMITED:
        raise OSError("this machine does not let a process limit its own time and memory")
    return status == 0
