"""Stages that are forked: they end, say and hold what started ones do, and outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from harness.report import finish
from harness.runs import ledger
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.fork_server import MODULES, ForkedStage, ForkServer
from harness.runs.orchestrate import run_plan
from harness.runs.progress import Position
from harness.runs.supervise import StageProcess, StartedStage, stop
from tests.fixtures import synthetic_run
from tests.warm import Warm
from vzero.errors import InterruptedRun
from vzero.runtime.stage import read_preset
from vzero.runtime.watchdog import watchdog_command
from vzero.selfplay import Stage, plan

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone"),
]
# Does what its last word says; says first what it was given.
PROGRAM = """
import atexit, os, signal, subprocess, sys, threading, time
print(sys.argv[1:], __name__, os.environ["COLOUR"], os.getsid(0) == os.getpgrp(), sys.flags.safe_path)
what = sys.argv[-1]
if what == "helpers":
    subprocess.Popen(["sleep", "300"])
    while True:
        time.sleep(0.1)
if what == "asked":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print("waiting", flush=True)
    while True:
        time.sleep(0.1)
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "broken":
    raise ValueError("for no reason")
if what.isdigit():
    sys.exit(int(what))
if what == "sentence":
    sys.exit("a sentence")
if what == "later":
    sys.stdout = open(1, "w", buffering=1 << 16, closefd=False)  # nothing is written before it must be
    atexit.register(print, "handler")
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    sys.exit(3)
"""
ENDS = [("0", 0), ("75", 75), ("end", 0), ("broken", 1), ("killed", 137), ("sentence", 1), ("later", 3)]
Start = Callable[[str], StageProcess]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def group(leader: int) -> list[int]:
    """Who lives in the process group; zombies do not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "program.py").write_text(PROGRAM)
    paths = f"{tmp_path / 'code'}:{ROOT}"
    return {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "COLOUR": "red"}


@pytest.fixture
def server() -> Iterator[ForkServer]:
    one = ForkServer(["json", "no.such.module"])
    yield one
    one.close()


def forked(server: ForkServer, environment: dict[str, str], what: str, log: Path) -> StageProcess:
    with open(log, "ab") as stream, open(log.with_name("lock"), "ab") as lock:
        child = server.start(["program", "some words", what], environment, stream.fileno(), lock.fileno())
    assert isinstance(child, ForkedStage)
    return StageProcess(child, log, 0)


def started(environment: dict[str, str], what: str, log: Path) -> StageProcess:
    words = watchdog_command([sys.executable, "-P", "-m", "program", "some words", what])
    with open(log, "ab") as stream:
        popen = subprocess.Popen(words, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    return StageProcess(StartedStage(popen), log, 0)


@pytest.mark.parametrize(("what", "code"), ENDS)
def test_a_forked_stage_ends_and_says_what_a_started_one_does(
    server: ForkServer, environment: dict[str, str], what: str, code: int, tmp_path: Path
) -> None:
    stages = (
        forked(server, environment, what, tmp_path / "forked.log"),
        started(environment, what, tmp_path / "started.log"),
    )
    for stage in stages:
        until(lambda stage=stage: stage.poll(0.02) is not None)
        assert stage.code == code and stage.peak_mib > 1
        until(lambda stage=stage: group(stage.child.pid) == [])
    first, second = (stage.log.read_text().splitlines() for stage in stages)
    assert first[0] == second[0] == f"['some words', '{what}'] __main__ red True True"
    assert first[-1] == second[-1]
    if what == "later":
        assert first[1:] == second[1:] == ["thread", "handler"]


def test_it_holds_the_lock_until_it_ends(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    stage = forked(server, environment, "helpers", tmp_path / "log")

    def holds(process: int) -> bool:
        places = [os.readlink(one) for one in Path(f"/proc/{process}/fd").iterdir()]
        return str(tmp_path / "lock") in places

    until(lambda: len(group(stage.child.pid)) == 3)  # watchdog, stage, its helper
    assert sum(map(holds, group(stage.child.pid))) == 2
    stop([stage])
    until(lambda: group(stage.child.pid) == [])


def test_one_that_is_asked_to_end_ends_in_its_own_way(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    stage = forked(server, environment, "asked", tmp_path / "log")
    until(lambda: "waiting" in (tmp_path / "log").read_text())
    stop([stage])
    assert stage.code == 75


def test_nothing_outlives_the_server_and_the_next_stage_has_a_new_one(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    stage = forked(server, environment, "helpers", tmp_path / "log")
    until(lambda: len(group(stage.child.pid)) == 3)
    parent = int(Path(f"/proc/{stage.child.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    until(lambda: stage.poll(0.02) is not None)
    assert stage.code == -signal.SIGKILL
    until(lambda: group(stage.child.pid) == [])
    with open(tmp_path / "log", "ab") as stream:
        words = ["program", "0"]
        assert server.start(words, environment, stream.fileno(), stream.fileno()) is None
    again = forked(server, environment, "0", tmp_path / "log")
    until(lambda: again.poll(0.02) is not None)
    assert again.code == 0


def test_another_environment_is_another_server(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    for colour in ("red", "green"):
        stage = forked(server, {**environment, "COLOUR": colour}, "0", tmp_path / colour)
        until(lambda stage=stage: stage.poll(0.02) is not None)
        assert f"__main__ {colour} " in (tmp_path / colour).read_text()


def test_a_module_is_run_to_its_end(server: ForkServer, environment: dict[str, str], tmp_path: Path) -> None:
    with open(tmp_path / "held", "ab") as lock:
        assert not server.run(["program", "0"], lock.fileno())  # nothing was forked: no environment
        assert forked(server, environment, "0", tmp_path / "log").poll(60) == 0
        ends = [server.run(["program", what], lock.fileno()) for what in ("0", "3", "killed", "0")]
    assert ends == [True, False, False, True]


def test_an_interruption_ends_what_is_run_and_holds_the_lock(
    server: ForkServer, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaders = list[int]()

    def interrupted(fork: ForkedStage, seconds: float | None) -> bool:
        leaders.append(fork.pid)
        until(lambda: len(group(fork.pid)) == 3)  # watchdog, program, its helper
        places = [os.readlink(one) for one in Path(f"/proc/{fork.pid}/fd").iterdir()]
        assert str(tmp_path / "held") in places
        raise KeyboardInterrupt

    assert forked(server, environment, "0", tmp_path / "log").poll(60) == 0
    monkeypatch.setattr(ForkedStage, "wait", interrupted)
    with open(tmp_path / "held", "ab") as lock, pytest.raises(KeyboardInterrupt):
        server.run(["program", "helpers"], lock.fileno())
    until(lambda: group(leaders[0]) == [])


def test_results_and_report_of_a_fork_are_those_made_here(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> None:
    run, names = tmp_path / "run", ("results.json", "report.md", "report.html")
    synthetic_run.make(run, count=12, hostile=False)
    finish(run)
    here = [(run / name).read_bytes() for name in names]
    for name in names:
        (run / name).unlink()
    assert forked(server, environment, "0", tmp_path / "log").poll(60) == 0
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_WRONLY)
    assert server.run(["harness.report", str(run)], lock)
    assert [(run / name).read_bytes() for name in names] == here
    next(run.glob("stages/*/questions.jsonl")).write_text("{}\n")
    assert not server.run(["harness.report", str(run)], lock)
    os.close(lock)


def test_all_end_with_a_killed_runner(environment: dict[str, str], tmp_path: Path) -> None:
    runner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\n"
            "from harness.runs.fork_server import ForkServer\n"
            "server, log = ForkServer(['json']), os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
            "stage = server.start(['program', 'helpers'], dict(os.environ), log, log)\n"
            "print(stage.pid, server._process.pid, flush=True)\n"
            "time.sleep(300)",
            str(tmp_path / "log"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    stage, server = map(int, runner.stdout.readline().split())
    until(lambda: len(group(stage)) == 3)
    runner.kill()
    runner.communicate()
    until(lambda: group(stage) == [] and group(server) == [])


def test_the_first_imports_hold_up_no_display_and_their_interruption_is_in_the_ledger(tmp_path: Path) -> None:
    class Importing(ForkServer):
        def ready(self, environment: Mapping[str, str]) -> bool:
            if len(shown) == 3:
                raise InterruptedRun("Stopped by Ctrl-C.")
            return False

    class Shown(Display):
        def moved(self, stage: Stage, position: Position | None) -> None:
            shown.append(stage.name)

    folder, shown = tmp_path / "run", list[str]()
    synthetic_run.make(folder, stop_after="03-write-questions-1", count=12, hostile=False)
    preset = read_preset(folder)
    [stage] = [one for one in plan(preset) if one.name == "04-label-1"]
    display = Shown(Plan(preset, [stage], Forecast()), Console(quiet=True))
    with opened(folder, preset, "test") as run, pytest.raises(InterruptedRun):
        run_plan(run, preset, [stage], display, forks=Importing())
    assert [row["event"] for row in ledger.read(folder)][-2:] == ["stage-started", "stage-interrupted"]


def test_it_says_when_all_is_imported(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "code" / "slow.py").write_text(
        "import pathlib, time\n"
        "while not pathlib.Path(__file__).with_name('go').exists():\n"
        "    time.sleep(0.02)\n"
    )
    server, log = ForkServer(["slow"]), tmp_path / "log"
    try:
        assert not server.ready(environment)
        (tmp_path / "code" / "go").touch()
        until(lambda: server.ready(environment))
        child = forked(server, environment, "0", log)
        assert child.poll(60) == 0 and server.ready(environment)
    finally:
        server.close()


def test_what_is_imported_starts_no_thread_that_a_fork_would_miss(warm: Warm) -> None:
    """A pool of OpenMP's that the server had begun would leave the fork waiting for it."""
    program = (
        "import sys, threading\n"
        f"assert {set(MODULES)!r} <= set(sys.modules), set({MODULES!r}) - set(sys.modules)\n"
        "assert threading.active_count() == 1\n"
        "import torch\n"
        "torch.set_num_threads(2)\n"
        "print((torch.ones(512, 512) @ torch.ones(512, 512)).sum().item())\n"
    )
    done = warm.start("-c", program)
    out, err = done.communicate(300)  # one that waits for a thread does so for ever
    assert done.returncode == 0 and out.splitlines()[-1] == f"{512.0**3}", err
