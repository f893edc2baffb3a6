"""What this machine can do at best, measured: multiply-adds of one large matrix product, and bytes moved by
one large copy."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.perf.profile.clock import timed
from harness.perf.profile.results import Machine

SECONDS = 0.6  # for each of the two


def measure(load_before: float) -> Machine:
    """The machine and its roof."""
    import torch

    gpu = torch.cuda.is_available()
    dtype, device = (torch.bfloat16, "cuda") if gpu else (torch.float32, "cpu")
    size = 8192 if gpu else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    multiplying = _best(lambda: torch.mm(a, b, out=product))
    source = torch.ones((2**31 if gpu else 2**27) // 4, device=device)
    target = torch.empty_like(source)
    copying = _best(lambda: target.copy_(source))
    return Machine(
        device=torch.cuda.get_device_name() if gpu else processor() or platform.machine(),
        kind=device,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=_memory(),
        dtype=str(dtype).removeprefix("torch."),
        matmul_tflops=2 * size**3 / multiplying / 1e12,
        bandwidth_gbs=2 * source.numel() * source.element_size() / copying / 1e9,
        load_before=load_before,
    )


def _best(call: Callable[[], object]) -> float:
    call()
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        seconds, _ = timed(call)
        best, spent = min(best, seconds), spent + seconds
    return best


def processor() -> str | None:
    """Its name, where the system says it."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
