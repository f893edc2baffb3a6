"""Rollouts by vLLM in two processes (gloo, CPU), an engine in each, against
one process with one engine.

Skipped where vLLM is not installed (`make vllm` adds it).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.trainings import (
    QUESTIONER,
    SMALL,
    TWO,
    Launch,
    assert_equal_trainings,
    finish,
    lose_one,
    start_run,
)
from vzero.runtime import artefacts
from vzero.runtime.stage import stage_folder

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` adds it"
)
VLLM = ["rollouts.engine=vllm", "engine.batch_sequences=64"]


def test_each_process_draws_by_an_engine_of_its_own(
    launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Questioner: copies of the weights undisturbed, and split weights with a process killed on the way.
    Either ends where one process with one engine does, and every engine drew by the weights of the moment."""
    runs = {name: tmp_path / name for name in ("single", "ddp", "fsdp2")}
    for name, run in runs.items():
        start_run(run, [*VLLM, *(SMALL if name == "single" else TWO), f"launch.strategy={name}"])
        if name == "fsdp2":
            lose_one(launch, tools, run, QUESTIONER, seconds=600)
        finish(launch, run, QUESTIONER)
        gaps = [
            row["logprob_gap"]
            for row in artefacts.read_jsonl(stage_folder(run, QUESTIONER) / "metrics.jsonl")
        ]
        assert max(gaps) < 1e-3  # old weights after two steps: .015 (results/vllm-cpu)
    for name in ("ddp", "fsdp2"):
        assert_equal_trainings(runs["single"], runs[name], QUESTIONER)
