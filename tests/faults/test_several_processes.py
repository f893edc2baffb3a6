"""Training in two processes that `accelerate launch` starts (gloo, CPU), killed on the way, against one
process that nobody disturbs."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

from tests.faults.trainings import (
    LABELS,
    ONE_STAGE,
    QUESTIONER,
    SOLVER,
    TWO,
    WRITTEN,
    Launch,
    assert_equal_trainings,
    checkpointed,
    finish,
    lose_one,
    seal_made,
    start_run,
)
from vzero.runtime.stage import stage_folder


def test_copies_whose_runner_was_killed(
    alone: Path, launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Questioner, a copy of the weights a process. kill -9 of the runner after a checkpoint: nothing goes
    on running, and the same command resumes and ends where one process does."""
    start_run(tmp_path, [*TWO, "launch.strategy=ddp"])
    process = launch(ONE_STAGE, str(tmp_path), QUESTIONER)
    reached = checkpointed(tmp_path, QUESTIONER)
    tools.wait_for(lambda: reached() or process.poll() is not None, "a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    tools.wait_for(lambda: tools.processes_of(tmp_path) == [], "all processes to die with the runner")
    assert not (stage_folder(tmp_path, QUESTIONER) / "manifest.json").exists()
    finish(launch, tmp_path, QUESTIONER)
    assert_equal_trainings(alone, tmp_path, QUESTIONER)


def test_split_weights_that_lost_a_process(
    alone: Path, launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Solver, its weights split over the processes. kill -9 of one after a checkpoint: the other ends,
    the reason is told, and the same command resumes and ends where one process does."""
    preset = start_run(tmp_path, [*TWO, "launch.strategy=fsdp2"])
    seal_made(tmp_path, preset, QUESTIONER, WRITTEN, LABELS)
    lose_one(launch, tools, tmp_path, SOLVER, seconds=120)
    finish(launch, tmp_path, SOLVER)
    assert_equal_trainings(alone, tmp_path, SOLVER)
