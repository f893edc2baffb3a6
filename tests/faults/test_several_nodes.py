"""Training on several nodes: trees of processes on this machine with a rank each, that meet on loopback,
killed on the way, against one process that nobody disturbs."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.runs import ledger
from tests.faults.trainings import (
    LABELS,
    ONE_STAGE,
    QUESTIONER,
    SMALL,
    SOLVER,
    WRITTEN,
    Launch,
    assert_equal_trainings,
    checkpointed,
    ranks_of,
    seal_made,
    start_run,
)
from vzero.runtime import artefacts
from vzero.runtime.stage import stage_folder

NODES = [*SMALL, "launch.nodes=2", "launch.node_seconds=8"]


@pytest.fixture(autouse=True)
def meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def both(
    launch: Launch, tools: SimpleNamespace, run: Path, stage: str, words: list[str]
) -> tuple[subprocess.Popen[str], ...]:
    """Node 0, which does `stage` alone, and node 1 by the command line."""
    settings = [word for one in words for word in ("--set", one)]
    head = launch(ONE_STAGE, str(run), stage)
    return head, launch(
        tools.COMMAND, "train", "--preset", "smoke", "--out", str(run), "--node-rank", "1", *settings
    )


def assert_done(run: Path, stage: str, *nodes: subprocess.Popen[str]) -> None:
    for node in nodes:
        out, err = node.communicate(timeout=300)
        assert node.returncode == 0, f"{out}\n{err}\n" + "\n".join(
            log.read_text() for log in (run / "logs").glob(f"{stage}*")
        )


def assert_resumable(node: subprocess.Popen[str], sentence: str) -> None:
    _, err = node.communicate(timeout=120)
    assert (node.returncode, err.count("\n")) == (75, 1) and sentence in err, err


def test_a_node_and_then_the_head_are_killed(
    alone: Path, launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Questioner, a copy of the weights a node. Whichever node is killed, the other ends its part within
    the time said, nothing goes on running, and the same commands resume and end where one process does."""
    words = [*NODES, "launch.strategy=ddp"]
    start_run(tmp_path, words)
    head, other = both(launch, tools, tmp_path, QUESTIONER, words)
    tools.wait_for(
        lambda: len(ranks_of(tools, tmp_path)) == 2 or head.poll() is not None, "both nodes to train", 400
    )
    head.send_signal(signal.SIGKILL)
    assert_resumable(other, "Node 0 has given no sign of life for")
    tools.wait_for(lambda: tools.processes_of(tmp_path) == [], "all processes to die with the head")
    head, other = both(launch, tools, tmp_path, QUESTIONER, words)
    reached = checkpointed(tmp_path, QUESTIONER)
    tools.wait_for(lambda: reached() or head.poll() is not None, "a checkpoint", 400)
    other.send_signal(signal.SIGKILL)
    assert_resumable(head, "Node 1 has given no sign of life for")
    assert tools.processes_of(tmp_path) == []
    assert not (stage_folder(tmp_path, QUESTIONER) / artefacts.MANIFEST).exists()
    assert_done(tmp_path, QUESTIONER, *both(launch, tools, tmp_path, QUESTIONER, words))
    assert_equal_trainings(alone, tmp_path, QUESTIONER)
    assert [row["event"] for row in ledger.read(tmp_path)].count("nodes-joined") == 3
    timings = artefacts.read_jsonl(stage_folder(tmp_path, QUESTIONER) / "timings.jsonl")
    assert [row["generation"] for row in timings] == [1, 2]  # the first was kept from before the kill


def test_split_weights_of_which_another_node_lost_a_process(
    alone: Path, launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Solver, its weights split over the nodes. kill -9 of the other node's process: node 0 says what
    happened there, node 1 ends with it, and the same commands resume and end where one process does."""
    words = [*NODES, "launch.strategy=fsdp2"]
    preset = start_run(tmp_path, words)
    seal_made(tmp_path, preset, QUESTIONER, WRITTEN, LABELS)
    head, other = both(launch, tools, tmp_path, SOLVER, words)
    reached = checkpointed(tmp_path, SOLVER)
    tools.wait_for(lambda: reached() or head.poll() is not None, "a checkpoint", 400)
    subprocess.run(["kill", "-9", str(rank_below(tools, tmp_path, other.pid))], check=True)
    assert_resumable(head, f"Node 1: Stage {SOLVER} was ended from outside by SIGKILL")
    assert_resumable(other, "Node 0 ended the run: Node 1: ")
    assert tools.processes_of(tmp_path) == []
    assert_done(tmp_path, SOLVER, *both(launch, tools, tmp_path, SOLVER, words))
    assert_equal_trainings(alone, tmp_path, SOLVER)


def rank_below(tools: SimpleNamespace, run: Path, ancestor: int) -> int:
    """The training process that `ancestor` has started, by way of launcher and guards."""

    def above(process: int) -> int:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

    for rank in ranks_of(tools, run):
        process = rank
        while process > 1:
            if process == ancestor:
                return rank
            process = above(process)
    raise AssertionError("no such process")
