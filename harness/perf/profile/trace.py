"""A flame chart: torch.profiler's Chrome trace, made fit to be passed on."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vzero.runtime import artefacts

KEPT = (
    "schemaVersion",
    "deviceProperties",
    "displayTimeUnit",
    "baseTimeNanoseconds",
    "traceEvents",
)  # not the file it was written to


def record(calls: Mapping[str, Callable[[], Any]], target: Path) -> None:
    """Run the named calls under the profiler and write `target`, gzipped, for ui.perfetto.dev."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as profiler:
        for name, call in calls.items():
            with record_function(name):
                call()
    with tempfile.TemporaryDirectory(prefix="vzero-trace-") as folder:
        raw = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(raw))
        events = json.loads(raw.read_text(encoding="utf-8"))
    kept = {name: events[name] for name in KEPT if name in events}
    artefacts.write_bytes(target, gzip.compress(json.dumps(kept).encode(), 6, mtime=0))
