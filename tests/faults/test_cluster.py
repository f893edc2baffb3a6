"""Stages on a Ray cluster of several machines, killed on the way, against one process that nobody
disturbs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.runs import ledger
from tests import ray_cluster, small_grid, tiny_model
from tests.faults.trainings import (
    IMAGES,
    LABELS,
    ONE_STAGE,
    QUESTIONER,
    SMALL,
    SOLVER,
    WRITTEN,
    Launch,
    assert_equal_trainings,
    checkpointed,
    finish,
    ranks_of,
    seal_made,
    start_run,
)
from tests.ray_cluster import Machines
from vzero.config import LaunchConfig
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import run_stage, stage_folder
from vzero.stages import PROGRAMS

Wait = Callable[["subprocess.Popen[str]", Callable[[], bool], str], None]
LONG = 1200  # seconds, for a busy machine
SERVED = ("02-write-questions-1", "03-label-1")
SMALL_GRID = [*SMALL, *small_grid.SETTINGS, "images.count=12"]
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with ray_cluster.machines(2) as found:
        yield found


def test_a_cluster_of_this_machine_ends_with_its_run() -> None:
    code = (
        "import os\n"
        "from harness.cluster import session\n"
        "with session.local('local'):\n"
        "    assert os.environ[session.AUTH] == 'token' and len(os.environ[session.TOKEN]) == 64\n"
        "    print(os.environ[session.ADDRESS])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ray_cluster.ROOT, capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 0, done.stderr
    host, _, port = done.stdout.strip().rpartition(":")
    assert host == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5).close()


def on(machines: Machines, strategy: str) -> list[str]:
    return [*SMALL, "launch.nodes=2", f"launch.cluster={machines.address}", f"launch.strategy={strategy}"]


@pytest.fixture
def wait(tools: SimpleNamespace) -> Wait:
    """Until something is so, or the process has ended."""

    def until(process: subprocess.Popen[str], condition: Callable[[], bool], what: str) -> None:
        tools.wait_for(lambda: process.poll() is not None or condition(), what, LONG)

    return until


def interrupted(process: subprocess.Popen[str], run: Path, stage: str) -> str:
    """What a runner says that ended with 75."""
    _, err = process.communicate(timeout=LONG)
    assert (process.returncode, err.count("\n")) == (75, 1), f"{err}\n{logs(run, stage)}"
    assert not (stage_folder(run, stage) / "manifest.json").exists()
    return err


def logs(run: Path, stage: str) -> str:
    return "\n".join(log.read_text() for log in (run / "logs").glob(f"{stage}*"))


def test_nobody_joins_without_the_token_or_where_no_cluster_is(machines: Machines) -> None:
    """Where nobody listens, and where somebody does who is no cluster: that is tried twice."""
    code = (
        "import sys\n"
        "from harness.cluster import session\n"
        "for address in sys.argv[1:]:\n"
        "    print(session.driven(session.joined(address).__enter__))\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in ray_cluster.AUTH}
    env |= dict.fromkeys(("RAY_py_gcs_connect_timeout_s", "RAY_gcs_rpc_server_connect_timeout_s"), "2")
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    with socket.create_server(("0.0.0.0", 0)) as silent:
        addresses = [machines.address, nobody, "nowhere.invalid:6379", "127.0.0.1:65536"]
        addresses += [f"127.0.0.1:{silent.getsockname()[1]}"]
        words = [sys.executable, "-c", code, *addresses]
        done = subprocess.run(
            words, cwd=ray_cluster.ROOT, env=env, capture_output=True, text=True, timeout=LONG, check=False
        )
    said = [line for line in done.stderr.splitlines() if line.startswith(("note: ", "error: "))]
    assert done.stdout == "2\n" * len(addresses), done.stderr
    for line, address in zip(said, addresses, strict=True):
        assert f"No Ray cluster can be joined at {address} (" in line
    assert done.stderr.count("GCS server: TimedOut") == 2, done.stderr


FAILING = """
import sys
from dataclasses import replace
from pathlib import Path
import ray
from harness.cluster import part, session
from vzero.errors import InputError

class Absent:
    def __reduce__(self):
        return __import__, ("absent_here",)

class Elsewhere:
    needs = Absent()
    def place(self): ...

nowhere, log = Path("/nowhere"), Path(sys.argv[2])
with session.joined(sys.argv[1]):
    one = ray.remote(part.Part).options(num_cpus=1).remote()
    other = replace(part.here(), program={"torch": "1.0"})
    for found in (
        one.run.remote(nowhere, "x", 0, {}),
        one.give.remote([], nowhere, log, {}, part.here()),
        one.give.remote([], nowhere, log, {}, other),
    ):
        end = part.end_of(found)
        print(end.code, end.exit_code, end.reason)
    try:
        part.places_of([ray.remote(Elsewhere).options(num_cpus=1).remote()])
    except InputError as error:
        print(error)
"""


def test_what_fails_on_a_machine_is_not_told_as_its_loss(machines: Machines, tmp_path: Path) -> None:
    """A folder that is not there, another program, none at all: the same command would fail again."""
    words = [sys.executable, "-c", FAILING, machines.address, str(tmp_path / "a.log")]
    env = {**os.environ, **ray_cluster.AUTH}
    done = subprocess.run(
        words, cwd=ray_cluster.ROOT, env=env, capture_output=True, text=True, timeout=LONG, check=False
    )
    said = done.stdout.splitlines()
    assert len(said) == 4, f"{done.stdout}\n{done.stderr}"
    assert said[0].startswith("2 2 ") and "is not a run directory" in said[0]
    assert said[1].startswith("1 1 FileNotFoundError: ") and "/nowhere" in said[1]
    assert said[2].startswith("2 2 The machines ") and "differ in torch; install" in said[2]
    assert said[3] == "A machine of the cluster has not this program; install it on all of them."


def test_copies_whose_runner_and_then_a_machine_were_killed(
    alone: Path, launch: Launch, tools: SimpleNamespace, wait: Wait, tmp_path: Path, machines: Machines
) -> None:
    """The Questioner, a copy of the weights a machine. kill -9 of the runner: nothing goes on running. kill
    -9 of a machine's raylet after a checkpoint: 75 and a sentence, nothing goes on running, and the same
    command resumes and ends where one process does."""
    start_run(tmp_path, on(machines, "ddp"))
    process = launch(ONE_STAGE, str(tmp_path), QUESTIONER)
    wait(process, lambda: len(ranks_of(tools, tmp_path)) == 2, "both to train")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONG)
    tools.wait_for(lambda: tools.processes_of(tmp_path) == [], "all processes to die with the runner", LONG)
    process = launch(ONE_STAGE, str(tmp_path), QUESTIONER)
    wait(process, checkpointed(tmp_path, QUESTIONER), "a checkpoint")
    machines.tell("kill 0")
    assert "its machine or its worker is gone" in interrupted(process, tmp_path, QUESTIONER)
    tools.wait_for(lambda: tools.processes_of(tmp_path) == [], "all processes to die with the machine", LONG)
    finish(launch, tmp_path, QUESTIONER)
    assert_equal_trainings(alone, tmp_path, QUESTIONER)


def test_split_weights_of_which_a_machine_lost_its_process(
    alone: Path, launch: Launch, tools: SimpleNamespace, wait: Wait, tmp_path: Path, machines: Machines
) -> None:
    """The Solver, its weights split over the machines. kill -9 of a process: 75, and its machine is named. A
    machine that answers nobody any more: 75, and when it is back nothing of the run goes on there. The same
    command resumes, and ends where one process does."""
    preset = start_run(tmp_path, on(machines, "fsdp2"))
    seal_made(tmp_path, preset, QUESTIONER, WRITTEN, LABELS)
    process = launch(ONE_STAGE, str(tmp_path), SOLVER)
    wait(process, checkpointed(tmp_path, SOLVER), "a checkpoint")
    subprocess.run(["kill", "-9", str(max(ranks_of(tools, tmp_path)))], check=True)
    said = interrupted(process, tmp_path, SOLVER)
    assert "Rank " in said and f"Stage {SOLVER} was ended from outside by SIGKILL" in said
    assert tools.processes_of(tmp_path) == []
    process = launch(ONE_STAGE, str(tmp_path), SOLVER)
    wait(process, lambda: len(ranks_of(tools, tmp_path)) == 2, "both to train")
    subprocess.run(["kill", "-STOP", str(max(ranks_of(tools, tmp_path)))], check=True)  # or it may finish
    machines.tell("cut 1")
    assert "is gone" in interrupted(process, tmp_path, SOLVER)
    machines.tell("join 1")
    tools.wait_for(lambda: tools.processes_of(tmp_path) == [], "the lost machine's process to end", LONG)
    finish(launch, tmp_path, SOLVER)
    assert_equal_trainings(alone, tmp_path, SOLVER)


def test_a_run_from_which_a_machine_and_then_a_server_is_taken(
    launch: Launch, tools: SimpleNamespace, wait: Wait, tmp_path: Path, machines: Machines
) -> None:
    """Questions and their votes by two servers. A machine goes between two stages: 75, and a sentence says
    what is missing. The same command waits for one to come, then goes on. kill -9 of a server of each stage
    once requests are answered: the other answers what is left. All files have the bytes that one engine in
    one process gives them."""
    served, here, stages = tmp_path / "served", tmp_path / "here", (IMAGES, *SERVED)
    words = [*SMALL, "questioner.trained=false", "images.count=32", "engine.batch_sequences=8"]
    preset = load_preset("smoke", words)
    there = LaunchConfig(nodes=2, strategy="ddp", cluster=machines.address, join_seconds=1)

    def begin(seconds: float) -> subprocess.Popen[str]:
        launched = there.model_copy(update={"join_seconds": seconds})
        said = preset.model_copy(update={"launch": launched}).model_dump(mode="json")
        artefacts.write_json(served / "run.json", {"preset": said})
        return launch(ONE_STAGE, str(served), *stages)

    hold = tmp_path / f"served.hold-{SERVED[0]}"
    hold.touch()
    process = begin(1)
    wait(process, lambda: "stage-finished" in events(served), "images")
    machines.tell("leave 1")
    hold.unlink()
    said = interrupted(process, served, SERVED[0])
    assert "A machine is gone: the stage wants 2 x 1 CPU, each of one machine, and the cluster has" in said
    process = begin(LONG)
    wait(process, lambda: "for machines to join" in logs(served, SERVED[0]), "it to wait")
    machines.tell("add 1")
    for stage, log in zip(SERVED, ("written.jsonl", "votes.jsonl"), strict=True):
        wait(process, answered(stage_folder(served, stage) / "work" / log), "answers")
        subprocess.run(["kill", "-9", str(servers_of(served / "logs", stage)[0])], check=True)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, f"{out}\n{err}\n{logs(served, '')}"
    artefacts.write_json(here / "run.json", {"preset": preset.model_dump(mode="json")})
    for stage in stages:
        assert servers_of(served / "logs", stage) == []
        run_stage(here, stage, PROGRAMS)
        one, other = (
            artefacts.read_json(stage_folder(run, stage) / artefacts.MANIFEST) for run in (here, served)
        )
        assert one["files"] == other["files"] and one["spec_digest"] == other["spec_digest"]


def events(run: Path) -> list[str]:
    return [row["event"] for row in ledger.read(run)]


def answered(log: Path) -> Callable[[], bool]:
    return lambda: log.exists() and log.stat().st_size > 0


def servers_of(logs: Path, stage: str) -> list[int]:
    return printing_into(list(logs.glob(f"{stage}.replica-*.log")))


def printing_into(files: list[Path]) -> list[int]:
    """Processes that do, without their watchdogs."""
    logs, found = set(map(str, files)), []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b"watchdog"
            if b"watchdog" not in words and os.readlink(entry / "fd" / "1") in logs:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_grid_that_gets_a_machine_and_loses_a_worker(
    launch: Launch, tools: SimpleNamespace, wait: Wait, tmp_path: Path, machines: Machines
) -> None:
    """Two arms on one machine, and on a second that comes. kill -9 of the first one's worker: all is done in
    the end, and every stage that both arms have in common was finished once."""
    arms = ("v-zero", "random-label")
    words = [word for one in SMALL_GRID for word in ("--set", one)]
    grid = ["--arms", ",".join(arms), "--out", str(tmp_path), "--plain", "--json"]
    place = ["--cluster", machines.address]
    machines.tell("leave 1")
    process = launch(tools.COMMAND, "reproduce", "--preset", "smoke", *words, *grid, *place)
    begun = (tmp_path / arms[0] / "seed-0" / "ledger.jsonl").exists
    wait(process, begun, "the first run")
    first, second = ([tmp_path / "logs" / f"worker-{i}.log"] for i in range(2))
    assert not second[0].exists()
    machines.tell("add 1")
    wait(process, lambda: printing_into(second) != [], "the second machine")
    subprocess.run(["kill", "-9", str(printing_into(first)[0])], check=True)
    shown, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, f"{err}\n{logs(tmp_path, 'worker')}"
    index = json.loads(shown)
    assert {name: one["state"] for name, one in index["runs"].items()} == {
        f"{arm}/seed-0": "done" for arm in arms
    }
    rows = [row for arm in arms for row in ledger.read(tmp_path / arm / "seed-0")]
    made = Counter(row["event"] for row in rows if row["event"] in ("stage-finished", "stage-shared"))
    # V-Zero's seven stages, and three of random labels; the five before these are the same. Of one that was
    # finished the killed worker may not have said so.
    assert made["stage-finished"] in (9, 10) and made["stage-shared"] == 5
    assert printing_into(list((tmp_path / "logs").glob("*.log"))) == []


def test_an_evaluation_by_two_servers_that_lost_the_head(
    launch: Launch, tools: SimpleNamespace, wait: Wait, tmp_path: Path, machines: Machines
) -> None:
    """`evaluate` on all machines, kill -9 of the head when the greedy answers are there and others are owed:
    75 and a sentence, no server goes on; the same command without the cluster ends where one that nobody
    disturbed does."""
    alone, served = tmp_path / "alone", tmp_path / "served"
    words = ["--suites", "pocket_math", "--limit", "40", "--samples", "8", "--max-new-tokens", "40"]
    words = ["evaluate", str(tiny_model.build(tmp_path / "tiny")), *words, "--batch", "8", "--out"]

    def answers(run: Path) -> list[str]:
        found = run / "responses" / "pocket_math.jsonl"
        return sorted(found.read_text().splitlines()) if found.exists() else []

    process = launch(tools.COMMAND, *words, str(served), "--cluster", machines.address)
    wait(process, lambda: len(answers(served)) >= 40, "greedy answers")
    servers = servers_of(served / "work", "evaluate")
    subprocess.run(["kill", "-STOP", *map(str, servers)], check=True)  # they owe the rest
    machines.tell("kill head")
    _, err = process.communicate(timeout=LONG)
    assert len(servers) == 2 and process.returncode == 75, err
    assert "cluster was lost during evaluate" in err.splitlines()[-1]
    tools.wait_for(lambda: servers_of(served / "work", "evaluate") == [], "the servers to end", LONG)
    assert 40 <= len(answers(served)) < 80
    for run in (served, alone):
        out, err = launch(tools.COMMAND, *words, str(run)).communicate(timeout=LONG)
        assert (run / "results.json").exists(), f"{out}\n{err}"
    assert answers(served) == answers(alone) and len(answers(alone)) == 80
    one, other = (artefacts.read_json(run / "results.json") for run in (served, alone))
    for found in (one, other):
        del found["created"], found["provenance"]
    assert one == other
