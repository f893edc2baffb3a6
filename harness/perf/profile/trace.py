"""A flame chart: torch.profiler's Chrome trace, made fit to be passed on."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from vzero.runtime import artefacts

# Not the file it was written to, nor what else a machine may say of itself.
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds", "traceEvents")


def record(calls: Mapping[str, Callable[[], object]], target: Path) -> None:
    """Run the named calls under the profiler and write `target`, gzipped, for ui.perfetto.dev."""
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
