"""Real runs of the command line and of a one-stage plan, as processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import app; app()"
# What `train` does, stopped after the images stage: quick, and every part of the runner is in it.
IMAGES_ONLY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from rich.console import Console
from harness.cli import explain
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.orchestrate import run_plan
from harness.runs.signals import interruptible
from vzero.presets import load_preset
from vzero.selfplay import plan
folder, preset = Path(sys.argv[1]), load_preset("smoke", sys.argv[2:])
stages = plan(preset)[:1]
try:
    with interruptible(), opened(folder, preset, "test") as run:
        run_plan(run, preset, stages, Display(Plan(preset, stages, Forecast()), Console()))
except Exception as error:
    sys.exit(explain(error))
"""


def processes_of(run: Path) -> list[int]:
    """Process ids whose command line names `run`, from /proc; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(run).encode() in words:
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait until `condition` holds; generous, for a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def tools() -> SimpleNamespace:
    """The helpers above, for the tests (test modules cannot import a conftest)."""
    return SimpleNamespace(
        COMMAND=COMMAND, IMAGES_ONLY=IMAGES_ONLY, processes_of=processes_of, wait_for=wait_for
    )


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program (`COMMAND` or `IMAGES_ONLY`) with arguments; whatever still runs at the end of the
    test is ended."""
    started: list[subprocess.Popen[str]] = []

    def go(program: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", program, *words],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both trainings of a small run by one process, undisturbed."""
    import torch

    from tests.faults.trainings import LABELS, QUESTIONER, SMALL, SOLVER, WRITTEN, seal_made, start_run
    from tests.made_once import made_once
    from vzero.runtime.stage import run_stage
    from vzero.stages import PROGRAMS

    def train(folder: Path) -> None:
        torch.set_num_threads(1)
        preset = start_run(folder, SMALL)
        run_stage(folder, QUESTIONER, PROGRAMS)
        seal_made(folder, preset, WRITTEN, LABELS)
        run_stage(folder, SOLVER, PROGRAMS)

    return made_once(tmp_path_factory, "alone", train)
