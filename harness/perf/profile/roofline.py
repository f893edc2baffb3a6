"""What this machine can do at best, measured: multiply-adds of one large matrix product, and bytes moved by
one large copy."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from harness.perf.profile import clock

SECONDS = 0.6  # for each of the two


def measure() -> dict[str, Any]:
    """The machine in words and its roof: `matmul_tflops` in `dtype`, `bandwidth_gbs` (read and written). No
    host or user name."""
    import torch

    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    device = "cuda" if gpu else "cpu"
    size = 8192 if gpu else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    seconds = _best(lambda: torch.mm(a, b, out=product))
    source = torch.ones((2**31 if gpu else 2**27) // 4, device=device)
    target = torch.empty_like(source)
    copying = _best(lambda: target.copy_(source))
    return {
        "device": torch.cuda.get_device_name() if gpu else _processor(),
        "kind": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory(),
        "dtype": str(dtype).removeprefix("torch."),
        "matmul_tflops": 2 * size**3 / seconds / 1e12,
        "bandwidth_gbs": 2 * source.numel() * source.element_size() / copying / 1e9,
    }


def _best(call: Any) -> float:
    call()
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        start = clock.now()
        call()
        seconds = clock.now() - start
        best, spent = min(best, seconds), spent + seconds
    return best


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
