"""What of this machine its processes may use: cores and memory, those of the container that they are in. None
where it is not known."""

from __future__ import annotations

import os
from pathlib import Path

_UNLIMITED = 1 << 62  # cgroup v1 writes "no limit" as a number above this


def cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Cores' worth of time that its cgroup grants; None without a limit."""
    words = _read("/sys/fs/cgroup/cpu.max").split()
    if len(words) != 2:
        words = [
            _read(f"/sys/fs/cgroup/cpu/{name}").strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    if not all(word.isdecimal() for word in words) or int(words[1]) == 0:  # "max", or -1, is no limit
        return None
    return int(words[0]) / int(words[1])


def memory_limit() -> int | None:
    """Bytes that its cgroup grants; None without a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(path).strip()
        if text.isdecimal():
            return int(text) if int(text) < _UNLIMITED else None
    return None


def _used_memory() -> int:
    """Bytes of its cgroup that cannot be given back: those of programs, without cached files."""
    for path, name in (("memory.stat", "anon"), ("memory/memory.stat", "total_rss")):
        for line in _read(f"/sys/fs/cgroup/{path}").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1])
    return 0


def free_memory() -> int | None:
    """Bytes that new processes can have now, without swapping; of a cgroup, what is left of its limit."""
    lines = _read("/proc/meminfo").splitlines()
    free = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    limit = memory_limit()
    left = None if limit is None else max(0, limit - _used_memory())
    return min((one for one in (free, left) if one is not None), default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
