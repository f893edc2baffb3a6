"""Peak memory of each phase above what was held before it ran."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from harness.perf.profile.counts import Scope

PERIOD = 0.004  # seconds between two looks at the resident size
MIB = 2**20
Peaks = dict[str, float]  # MiB by phase


@contextmanager
def peaks(scope: Scope) -> Iterator[Peaks]:
    """Filled in when the block ends; empty where this system does not tell.

    On a GPU the allocator's own peak; on the CPU the largest resident size seen by a sampling thread. Memory
    freed earlier is given back to the system first, so that it is not reused unseen.
    """
    found: Peaks = {}
    if torch.cuda.is_available():
        with _on_gpu(scope, found):
            yield found
    elif resident() is None:
        yield found
    else:
        with _on_cpu(scope, found):
            yield found


@contextmanager
def _on_gpu(scope: Scope, found: Peaks) -> Iterator[None]:
    base = torch.cuda.memory_allocated()

    def ended(phase: str) -> None:
        found[phase] = max(found.get(phase, 0.0), (torch.cuda.max_memory_allocated() - base) / MIB)
        torch.cuda.reset_peak_memory_stats()

    torch.cuda.reset_peak_memory_stats()
    scope.listeners.append(ended)
    try:
        yield
    finally:
        ended(scope.phase)
        scope.listeners.remove(ended)


@contextmanager
def _on_cpu(scope: Scope, found: Peaks) -> Iterator[None]:
    _give_back()
    base, stop = resident() or 0, threading.Event()

    def look(phase: str) -> None:
        found[phase] = max(found.get(phase, 0.0), ((resident() or 0) - base) / MIB)

    def ended(phase: str) -> None:
        look(phase)
        _give_back()  # or the next phase would be charged for what this one has freed

    def watch() -> None:
        while not stop.wait(PERIOD):
            look(scope.phase)

    thread = threading.Thread(target=watch, daemon=True)
    scope.listeners.append(ended)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look(scope.phase)
        scope.listeners.remove(ended)


def _give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident() -> int | None:
    """Bytes of this process in memory; None where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
