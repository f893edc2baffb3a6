"""The sections of `gpu_check.py`: each a function of a `Setup` that runs the product's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tools.gpu_check_models import Setup, synchronize
from tools.gpu_check_report import Check, Found, Section, Values
from vzero.runtime import artefacts

ROOT = Path(__file__).resolve().parents[1]
TRAINING = "tools.gpu_check_training"
HOMES = dict.fromkeys(("facts", "weights", "smoke"), __name__) | dict.fromkeys(
    ("vision", "attention"), "tools.gpu_check_kernels"
)


def facts(setup: Setup) -> Found:
    """The machine and its roof, packages outside the ranges that pyproject.toml declares, and whether the
    interpreter has what a run needs."""
    import tomllib
    from importlib import metadata

    from packaging.requirements import Requirement

    from harness.perf.profile import roofline

    outside = []
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    for wanted in map(Requirement, declared):
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not wanted.specifier.contains(version.split("+")[0], prereleases=True):
            outside.append(f"{wanted.name} {version}")
    machine = roofline.measure(load_before=0.0).model_dump()
    measured = {**machine, "outside the declared ranges": ", ".join(outside) or "none"}
    if not setup.dry:
        free, whole = torch.cuda.mem_get_info()
        measured |= {"memory_bytes": whole, "free_bytes": free, "cuda": torch.version.cuda}
        measured |= {"capability": ".".join(map(str, torch.cuda.get_device_capability()))}
    return measured, [], {}


def weights(setup: Setup) -> Found:
    """Random weights saved as a checkpoint and loaded as training loads them: the seconds that every stage
    spends before it begins."""
    from vzero.runtime import checkpoints

    start = time.perf_counter()
    folder = setup.checkpoint()
    saved = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    start = time.perf_counter()
    model = checkpoints.load_model(folder, torch.float32, setup.device)
    synchronize(setup.device)
    loaded = time.perf_counter() - start
    measured = {
        "parameters": sum(one.numel() for one in model.parameters()),
        "layers": model.config.get_text_config().num_hidden_layers,
        "bytes": size,
        "made_and_saved_seconds": saved,
        "loaded_in_float32_seconds": loaded,
        "processor": "real" if setup.processor_folder else "stand-in words",
    }
    return measured, [], {"read": size / loaded, "write": size / saved}


def smoke(setup: Setup) -> Found:
    """The training stages of the preset smoke by the product's own program, with real draws and votes; its
    evaluation needs lmms-eval and is left out."""
    from vzero.presets import load_preset
    from vzero.selfplay import training

    preset, run = load_preset("smoke"), setup.scratch / "smoke"
    artefacts.write_json(run / "run.json", {"preset": preset.model_dump(mode="json")})
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if setup.dry else {}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    measured: Values = {}
    checks = []
    for stage in training(preset):
        start = time.perf_counter()
        command = [sys.executable, "-P", "-m", "vzero.stages", str(run.resolve()), stage.name]
        environment = {**os.environ, **hidden, "PYTHONPATH": paths}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        measured[stage.name] = {"seconds": time.perf_counter() - start}
        checks.append(Check(name=f"{stage.name}: exit code", value=done.returncode, low=0, high=0))
        if done.returncode:
            measured[stage.name]["message"] = done.stderr[-300:]
            break
        rows = run / "stages" / stage.name / "metrics.jsonl"
        if rows.exists():
            measured[stage.name]["last_step"] = artefacts.read_jsonl(rows)[-1]
            told = [row.get("logprob_gap") for row in artefacts.read_jsonl(rows)]
            worst = max((one for one in told if one is not None), default=None)
            checks.append(Check(name=f"{stage.name}: largest logprob_gap", value=worst, high=0.05))
    return measured, checks, {"start_seconds": measured["00-images"]["seconds"]}


def run(name: str, setup: Setup) -> Section:
    """One section, its failure recorded; what only others need is not imported."""
    start = time.monotonic()
    git = artefacts.provenance()["git"]
    commit = git["commit"] if git else None

    def section(**found: Any) -> Section:
        return Section(seconds=round(time.monotonic() - start, 1), commit=commit, **found)

    try:
        section_of: Callable[[Setup], Found] = getattr(import_module(HOMES.get(name, TRAINING)), name)
        measured, checks, rates = section_of(setup)
        return section(state="done", measured=json.loads(json.dumps(measured)), checks=checks, rates=rates)
    except Exception as error:  # of whatever kind: the others are still worth running
        traceback.print_exc()
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        return section(state="failed", error=f"{type(error).__name__}: {first}")
