"""The whole smoke experiment through the command line, once undisturbed and once killed in three stages: the
same results.

`VZERO_TEST_MODEL` names another base checkpoint than the shipped one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.action import check_step
from vzero.presets import load_preset
from vzero.runtime.checkpoints import POCKET
from vzero.runtime.stage import finished
from vzero.selfplay import plan

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("VZERO_TEST_MODEL", "pocket")
PRESET = load_preset("smoke", [f"model={MODEL}"])
STAGES = plan(PRESET)
pytestmark = pytest.mark.skipif(
    MODEL == "pocket" and not (POCKET / "config.json").exists(), reason="there is no pocket checkpoint yet"
)


def start(run: Path, *words: str) -> subprocess.Popen[str]:
    settings = ["--preset", "smoke", "--set", f"model={MODEL}", "--out", str(run), "--plain"]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "reproduce", *settings, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, f"{out}\n{err}"
    return out, err


def kill_when(
    run: Path, process: subprocess.Popen[str], condition: Callable[[], bool], number: signal.Signals
) -> None:
    """Wait for `condition`, then end the runner by `number`; the run must not be over before."""
    limit = time.monotonic() + 1500
    while not condition():
        assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == (75 if number == signal.SIGTERM else -number)


def working(run: Path, stage: str, rows: int) -> Callable[[], bool]:
    """Whether `stage` has said at least `rows` times how far it is."""
    path = run / "stages" / stage / "work" / "progress.jsonl"
    return lambda: path.exists() and path.read_text().count("\n") >= rows


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An undisturbed run: its folder, what it printed on stdout and on stderr."""
    run = tmp_path_factory.mktemp("calm") / "run"
    return (run, *end(start(run, "--json")))


def test_smoke_runs_from_images_to_the_report(calm: tuple[Path, str, str]) -> None:
    run, out, err = calm
    results = json.loads(out)  # --json: nothing else on stdout
    assert results == json.loads((run / "results.json").read_text())
    assert results["complete"] is True and results["models"] == ["base", "S1"]
    assert set(results["suites"]) == set(PRESET.evaluation.suites) and set(results["gains"]) == {"S1"}
    assert f"[{len(STAGES)}/{len(STAGES)}] {STAGES[-1].name} started" in err
    assert all(finished(run, PRESET, stage) for stage in STAGES)
    assert not list(run.glob("stages/*/work"))
    for name in ("report.md", "report.html"):
        assert (run / name).stat().st_size > 1000
    events = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    ended = [row["stage"] for row in events if row["event"] == "stage-finished"]
    assert sorted(ended) == [stage.name for stage in STAGES] and ended[-1] == STAGES[-1].name
    assert events[0]["event"] == "run-started" and events[-1]["event"] == "run-finished"


def test_the_action_passes_an_undisturbed_run(calm: tuple[Path, str, str], tmp_path: Path) -> None:
    step = check_step(tmp_path / "foreign", calm[0], no_reference=True)
    assert step.code == 0 and "::error" not in step.log and "::notice title=vzero-harness check::" in step.log
    assert json.loads((step.findings / "check.json").read_text())["passed"] is True
    assert not ElementTree.parse(step.findings / "check.xml").findall(".//failure")
    assert "training did what it says" in step.page


def test_the_same_command_again_does_nothing_but_show_the_result(calm: tuple[Path, str, str]) -> None:
    run = calm[0]
    seals = {path: path.read_bytes() for path in run.glob("stages/*/manifest.json")}
    out, _ = end(start(run))
    assert out.count("already done") == len(STAGES) and " started" not in out
    said = {line[:10].strip(): line[10:] for line in out.splitlines() if line[:10].strip()}
    assert "too small to judge" in said["Verdict"] and "not judged" in said["Gain"]
    assert "fired" in said["Alarms"] and said["Report"] == str(run / "report.html")
    assert said["Next"] == f"vzero-harness open {run}"
    assert {path: path.read_bytes() for path in run.glob("stages/*/manifest.json")} == seals


@pytest.mark.skipif(MODEL != "pocket", reason="the committed reference is of the shipped model")
def test_the_run_passes_its_own_check(calm: tuple[Path, str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check", str(calm[0]), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["passed"] is True, [
        one for one in found["findings"] if one["passed"] is False
    ]
    passed = {one["rule"] for one in found["findings"] if one["passed"]}
    assert passed >= {
        "reward-formula",
        "loss-is-the-objective",
        "kl-in-the-loss",
        "weights-moved",
        "beside-reference",
        "run-complete",
    }


def test_a_run_killed_in_three_stages_ends_in_the_same_results(
    calm: tuple[Path, str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for stage, rows, number in (
        ("01-evaluate-base", 2, signal.SIGKILL),
        ("02-train-questioner-1", 3, signal.SIGKILL),  # its begin, and two steps
        ("05-train-solver-1", 2, signal.SIGTERM),  # of two steps, one
    ):
        process = start(run)
        try:
            kill_when(run, process, working(run, stage, rows), number)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    out, _ = end(start(run))
    assert "05-train-solver-1 resumed (attempt 2)" in out
    assert (run / "results.json").read_bytes() == (calm[0] / "results.json").read_bytes()
