"""Training in two processes (gloo, CPU), killed on the way, against one process that nobody disturbs."""

from __future__ import annotations

import ipaddress
import signal
from contextlib import suppress
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
    ranks_of,
    seal_made,
    start_run,
)
from vzero.runtime.stage import stage_folder


def listening(processes: list[int]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses at which any of `processes` waits for TCP connections or datagrams, from /proc."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                inodes.add(descriptor.readlink().name.removeprefix("socket:[").removesuffix("]"))
    rows = [
        row.split()
        for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"))
        for row in Path("/proc/net", table).read_text().splitlines()[1:]
        if row.split()[3] == state
    ]
    words = [bytes.fromhex(row[1].partition(":")[0]) for row in rows if row[9] in inodes]
    # Each word of four bytes is in the order of this machine.
    swapped = [b"".join(one[i : i + 4][::-1] for i in range(0, len(one), 4)) for one in words]
    return [ipaddress.ip_address(one) for one in swapped]


def test_copies_whose_runner_was_killed(
    alone: Path, launch: Launch, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """The Questioner, a copy of the weights a process, which meet in a file and on loopback alone. kill -9 of
    the runner after a checkpoint: nothing goes on running, and the same command resumes and ends where one
    process does."""
    start_run(tmp_path, [*TWO, "launch.strategy=ddp"])
    process = launch(ONE_STAGE, str(tmp_path), QUESTIONER)
    reached = checkpointed(tmp_path, QUESTIONER)
    tools.wait_for(lambda: reached() or process.poll() is not None, "a checkpoint")
    assert len(ranks_of(tools, tmp_path)) == 2
    addresses = listening(tools.processes_of(tmp_path))
    assert addresses and all(one.is_loopback for one in addresses), addresses
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
