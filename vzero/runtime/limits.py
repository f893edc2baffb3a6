"""Limits of processor time and memory, for work whose cost a stranger's file decides."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path


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


def ends(work: Callable[[], object], seconds: int, memory: int) -> bool:
    """Whether `work` ends within these limits, by an exception or without: tried in a fork of this process,
    so that nothing changes here."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit(seconds, memory)
            work()
            code = 0
        except MemoryError:
            pass
        except Exception:
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0
