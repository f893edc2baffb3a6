"""Two stages of a run alive at once, with programs that wait until a test lets them end: killed, interrupted,
failed, shared with another process; what they leave is what one stage at a time leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs import ledger
from harness.runs.folder import locked
from harness.runs.shared_stages import SharedStages
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import spec_of, stage_folder
from vzero.selfplay import plan

ROOT = Path(__file__).resolve().parents[2]
PRESET = load_preset("smoke")
STAGES = plan(PRESET)
IMAGES, BASE, TRAINING, NEXT = (
    stage.name for stage in STAGES[:4]
)  # the two in the middle are alive together
PACED = """
import os, sys, time
from vzero.errors import InputError
from vzero.runtime import artefacts
from vzero.runtime.stage import main

def program(context):
    (context.work / "alive").write_text(str(os.getpid()))
    gate = context.folder.parents[2] / "gates" / context.stage.name
    while not gate.exists():
        time.sleep(0.02)
    if gate.read_text():
        raise InputError(gate.read_text())
    spec = artefacts.read_json(context.work / "spec.json")
    artefacts.write_json(context.folder / "made.json", [context.stage.name, spec["inputs"]])
    return {}

if __name__ == "__main__":
    sys.exit(main(dict.fromkeys(sys.argv[3].split(","), program), sys.argv[1:3]))
"""
RUNNER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from contextlib import closing
from pathlib import Path
from rich.console import Console
from harness.cli import explain
from harness.runs import supervise
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.fork_server import ForkServer
from harness.runs.orchestrate import run_plan
from harness.runs.shared_stages import SharedStages
from harness.runs.signals import interruptible
from vzero.presets import load_preset
from vzero.selfplay import plan
folder, at_once, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
preset = load_preset("smoke")
stages = plan(preset)
kinds = ",".join(stage.kind for stage in stages)
supervise.program_of = lambda run, stage: ["paced", str(run.absolute()), stage.name, kinds]
shared = SharedStages(folder.parent / "shared") if how == "shared" else None
display = Display(Plan(preset, stages, Forecast(at_once)), Console())
try:
    with (
        interruptible(),
        opened(folder, preset, "test") as run,
        closing(ForkServer(["vzero.runtime.stage"])) as forks,
    ):
        run_plan(run, preset, stages, display, shared, None if how == "started" else forks, at_once)
except Exception as error:
    sys.exit(explain(error))
"""
Start = Callable[..., Any]  # (folder of the run, at_once, how) -> the runner's process


@pytest.fixture
def start(launch: Callable[..., Any], tmp_path: Path) -> Start:
    """Starts a runner of `PACED` stages."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "paced.py").write_text(PACED)
    (tmp_path / "gates").mkdir()
    prefix = ("env", f"PYTHONPATH={os.pathsep.join([str(ROOT), str(code)])}")
    return lambda run, at_once=2, how="forked": launch(RUNNER, str(run), str(at_once), how, prefix=prefix)


def let(run: Path, *names: str, fail: str = "") -> None:
    """The stages may end now, or fail with a sentence."""
    for name in names or [stage.name for stage in STAGES]:
        artefacts.write_text(run.parent / "gates" / name, fail)


def both_alive(run: Path, tools: SimpleNamespace) -> tuple[int, int]:
    """Wait for the base's evaluation and the first training; their process ids."""
    let(run, IMAGES)
    places = [stage_folder(run, name) / "work" / "alive" for name in (BASE, TRAINING)]
    tools.wait_for(lambda: all(one.exists() and one.read_text() for one in places), "two stages", 300)
    first, second = (int(one.read_text()) for one in places)
    return first, second


def events(run: Path, stage: str) -> list[str]:
    return [row["event"] for row in ledger.read(run) if row.get("stage") == stage]


def made(run: Path) -> dict[str, tuple[str, object]]:
    """Of each stage: what determined it, and the hashes of what it wrote."""
    found = {path.parent.name: json.loads(path.read_text()) for path in run.glob("stages/*/manifest.json")}
    return {name: (one["spec_digest"], one["files"]) for name, one in found.items()}


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("how", ["forked", "started"])
def test_two_stages_end_with_their_killed_runner(
    start: Start, tools: SimpleNamespace, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "run"
    runner = start(run, how=how)
    alive = both_alive(run, tools)
    runner.kill()
    runner.communicate()
    tools.wait_for(lambda: all(map(gone, alive)) and tools.processes_of(run) == [], "their end", 300)
    with locked(run, timeout=60):  # no process of the run is left that holds it
        assert events(run, BASE) == events(run, TRAINING) == ["stage-started"]


def test_killed_and_resumed_they_make_what_one_at_a_time_makes(
    start: Start, tools: SimpleNamespace, tmp_path: Path
) -> None:
    run, calm = tmp_path / "run", tmp_path / "calm"
    runner = start(run)
    alive = both_alive(run, tools)
    runner.kill()
    runner.communicate()
    tools.wait_for(lambda: all(map(gone, alive)), "their end", 300)  # else one may still end well
    let(run)
    with locked(run, timeout=60):
        pass
    out, err = start(run).communicate(timeout=300)
    assert err == "" and out.startswith(f"[1/7] {IMAGES} already done")
    assert events(run, BASE) == events(run, TRAINING) == [*["stage-started"] * 2, "stage-finished"]
    assert f"[2/7] {BASE} resumed (attempt 2)" in out and f"[3/7] {TRAINING} resumed (attempt 2)" in out
    assert start(calm, at_once=1).communicate(timeout=300)[1] == ""
    assert made(run) == made(calm) and len(made(run)) == len(STAGES)
    order = [row["stage"] for row in ledger.read(calm) if row["event"] == "stage-started"]
    assert order == [stage.name for stage in STAGES], "one at a time is the order of the plan"


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 1), (signal.SIGINT, 2), (signal.SIGHUP, 1)])
def test_a_signal_stops_both_and_exits_75(
    start: Start, tools: SimpleNamespace, tmp_path: Path, number: signal.Signals, times: int
) -> None:
    run, before = tmp_path / "run", signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        runner = start(run)
    finally:
        signal.signal(signal.SIGHUP, before)
    alive = both_alive(run, tools)
    for _ in range(times):
        runner.send_signal(number)
        time.sleep(0.01)  # or two would be one
    _, err = runner.communicate(timeout=300)
    assert runner.returncode == 75 and err.count("\n") == 1 and err.startswith("Stopped by ")
    assert all(map(gone, alive))
    assert events(run, BASE) == events(run, TRAINING) == ["stage-started", "stage-interrupted"]


@pytest.mark.parametrize("how", ["says why", "killed"])
def test_when_one_fails_the_other_ends_and_none_begins(
    start: Start, tools: SimpleNamespace, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "run"
    runner = start(run)
    measuring, training = both_alive(run, tools)
    if how == "killed":
        os.kill(measuring, signal.SIGKILL)
    else:
        let(run, BASE, fail="There is no such suite; name another.")
    tools.wait_for(lambda: "stage-failed" in events(run, BASE), "the failure", 300)
    assert runner.poll() is None and not gone(training)
    let(run, TRAINING, NEXT)
    out, err = runner.communicate(timeout=300)
    assert runner.returncode == (75 if how == "killed" else 2)
    assert ("SIGKILL" if how == "killed" else "error: There is no such suite; name another.") in err
    assert err.count("\n") == 1 and f"{BASE}.log" in err
    assert f"[2/7] {BASE} failed; awaiting {TRAINING}" in out
    assert events(run, TRAINING)[-1] == "stage-finished" and events(run, NEXT) == []


def test_a_failure_that_comes_again_is_what_the_run_ends_by(
    start: Start, tools: SimpleNamespace, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runner = start(run)
    os.kill(both_alive(run, tools)[0], signal.SIGKILL)
    tools.wait_for(lambda: "stage-failed" in events(run, BASE), "the failure", 300)
    let(run, TRAINING, fail="The loss is no number.")
    out, err = runner.communicate(timeout=300)
    assert runner.returncode == 2 and "error: The loss is no number." in err and err.count("\n") == 1
    assert f"[3/7] {TRAINING} failed: " in out
    assert events(run, BASE)[-1] == events(run, TRAINING)[-1] == "stage-failed"


def test_when_a_training_fails_what_measures_is_stopped(
    start: Start, tools: SimpleNamespace, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runner = start(run)
    alive = both_alive(run, tools)
    let(run, TRAINING, fail="The loss is no number.")
    out, err = runner.communicate(timeout=300)
    assert runner.returncode == 2 and "error: The loss is no number." in err and err.count("\n") == 1
    assert all(map(gone, alive)) and "awaiting" not in out
    assert events(run, BASE)[-1] == "stage-interrupted" and events(run, TRAINING)[-1] == "stage-failed"


def test_a_stage_that_another_process_does_holds_up_nothing_else(
    start: Start, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """Two runners, each waiting for the other's stage without a look at its own, would wait for ever."""
    run, shared = tmp_path / "run", SharedStages(tmp_path / "shared")
    let(run)
    with shared.claim(artefacts.digest(spec_of(run, PRESET, STAGES[1]))) as claimed:
        assert claimed()
        runner = start(run, how="shared")
        last = stage_folder(run, STAGES[-1].name) / artefacts.MANIFEST
        tools.wait_for(lambda: last.exists() or runner.poll() is not None, "all others", 300)
        assert runner.poll() is None and events(run, BASE) == []
    out, err = runner.communicate(timeout=300)
    assert err == "" and len(made(run)) == len(STAGES)
    assert out.count("another process does the same stage") == 1
    assert events(run, BASE) == ["stage-started", "stage-finished"]
