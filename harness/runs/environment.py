"""What the processes of a stage are given, equal from attempt to attempt: threads, GPUs, the code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import vzero
from vzero.config import Preset
from vzero.runtime.processes import ALL_GPUS, VARIABLES
from vzero.selfplay import Stage, processes_of


def threads_of(preset: Preset, stage: Stage) -> int:
    """CPU threads of each process of `stage`: the processes of a machine share the stage's."""
    return max(1, preset.engine.threads // max(1, processes_of(preset, stage.kind) // preset.launch.nodes))


def fixed(threads: int) -> dict[str, str]:
    """What must be equal from attempt to attempt: threads, hash seed, the code that is run."""
    code = str(Path(vzero.__file__).resolve().parent.parent)
    return {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait spin for a moment, a 300th of libgomp's default, and then sleep. On two cores
        # votes took 1.3 times as long without any spinning when nothing else ran, and with ten times this
        # twice as long when two other runs shared the cores.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
        # Of glibc: memory of a tensor that is gone stays for the next one. Given back to the system each
        # time, it cost 77,000 page faults for each 18,000 tokens of votes.
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")])),
    }


def environment(preset: Preset, stage: Stage) -> dict[str, str]:
    """The runner's environment with what is `fixed`, and where the processes of `stage` listen and
    compute."""
    given = fixed(threads_of(preset, stage))
    here = preset.launch.cluster is None  # all of it on this machine
    if here and sys.platform == "linux":
        given |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo")
    if here and preset.launch.gpus and stage.kind.startswith("train-"):
        given |= _gpus(preset)
    fetches = stage.kind == "images" and preset.images.source != "pocket"
    if preset.model == "pocket" and not fetches:
        given["HF_HUB_OFFLINE"] = "1"  # everything is on the disk; a look at the hub could only hang
    # A launcher around the runner is not ours.
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**inherited, **given}


def _gpus(preset: Preset) -> dict[str, str]:
    """A training sees the first GPUs only, one a process: the further ones serve the frozen Solver, which is
    told of all."""
    launch, engine, visible = preset.launch, preset.placed_engine(), os.environ.get("CUDA_VISIBLE_DEVICES")
    needed = max(launch.gpus, engine.servers, *(number + 1 for number in engine.gpus))
    every = visible.split(",") if visible else [str(i) for i in range(needed)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(every[: launch.gpus]), ALL_GPUS: ",".join(every)}
