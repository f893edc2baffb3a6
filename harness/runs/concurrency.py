"""How many stages of a run are alive at once."""

from __future__ import annotations

from pathlib import Path

from harness.runs.fork_server import DRIVERS
from vzero.config import Preset
from vzero.runtime import machine
from vzero.runtime.checkpoints import folder_of

# Of a stage: what a model of no size takes (the pocket world's largest stages took 1.25 GiB), and bytes for
# each byte of weights on disk: bfloat16 there, here float32 with gradient, two moments and the reference.
STAGE_BYTES, BYTES_A_BYTE = 3 << 29, 10


def stages_at_once(preset: Preset) -> int:
    """The preset's `launch.max_concurrent_stages`, as far as this machine has a core and memory for each. One
    at a time where a stage has GPUs, servers or a cluster to itself."""
    launch = preset.launch
    shares_nothing = preset.engine.name == "transformers" and not launch.gpus and launch.cluster is None
    if launch.max_concurrent_stages == 1 or not shares_nothing or any(Path(one).exists() for one in DRIVERS):
        return 1
    folder = folder_of(preset.model)
    if folder is None:
        return 1
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = machine.free_memory() or 0
    fitting = free // (STAGE_BYTES + BYTES_A_BYTE * weights)
    granted = int(min(machine.cores(), machine.cpu_quota() or machine.cores()))
    return max(1, min(launch.max_concurrent_stages, granted, fitting))
