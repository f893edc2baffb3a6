"""One node's processes of a stage: `python -m harness.runs.launcher COUNT NODES RANK ADDRESS PORT COMMAND…`.

As torch's own launchers do, it says in the environment which one each process is. Each is started behind a
watchdog that ends with this process, and in a process group of its own. On one node they meet in a file that
no other account can open; of several nodes' processes the first listens at ADDRESS and PORT, as torch's store
does. The exit code is the one of the process that failed first, by which the runner tells wrong input from an
interruption. When one process fails, the others are ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vzero.runtime.processes import STORE
from vzero.runtime.watchdog import watchdog_command

POLL = 0.05  # seconds


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of all nodes meet: `address` and `port` of node 0. On one node neither is used."""

    nodes: int = 1
    rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0


ONE_NODE = Rendezvous()


def main(count: int, rendezvous: Rendezvous, command: list[str]) -> int:
    """Run this node's part of `command` to its end.

    Args:
        count: of processes, on all nodes.
        command: an absolute path and its arguments.
    """
    here = count // rendezvous.nodes
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # by way of `finally`
    with TemporaryDirectory(prefix="vzero-launch-") as private:
        meeting = {"MASTER_ADDR": rendezvous.address, "MASTER_PORT": str(rendezvous.port)}
        if rendezvous.nodes == 1:
            meeting = {STORE: str(Path(private, "store"))}
        sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(here)}
        started: list[subprocess.Popen[bytes]] = []
        try:
            for local in range(here):
                rank = {"LOCAL_RANK": str(local), "RANK": str(rendezvous.rank * here + local)}
                environment = {**os.environ, **meeting, **sizes, **rank}
                # The run's lock is handed on: it is held until the last of them has ended.
                words = watchdog_command(command)
                started.append(subprocess.Popen(words, env=environment, process_group=0, close_fds=False))
            codes: list[int | None] = [None]
            while None in codes and not any(codes):
                time.sleep(POLL)
                codes = [process.poll() for process in started]
            return root_cause(code for code in codes if code) if any(codes) else 0
        finally:
            for process in started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def root_cause(codes: Iterable[int]) -> int:
    """The exit code that says most about a failure. Processes that lost a partner fail too, always with 1.

    Args:
        codes: of the processes that had ended when one had failed; negative ones are signals.
    """
    found = [shell_code(code) for code in codes if code]
    killed = [code for code in found if code > 128]
    return next((code for code in (*killed, 75, 2) if code in found), found[0] if found else 1)


def shell_code(code: int) -> int:
    """An exit code as shells have it: 128 + the number of a signal."""
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    where = Rendezvous(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    sys.exit(main(int(sys.argv[1]), where, sys.argv[6:]))
