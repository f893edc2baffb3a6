"""Several processes of a stage on one machine: `python -m harness.runs.launcher COUNT COMMAND…`.

As torch's own launchers do, it says in the environment which one each process is. Each is started behind a
watchdog that ends with this process, and in a process group of its own. They meet in a file that no other
account can open. The exit code is the one of the process that failed first, by which the runner tells wrong
input from an interruption. When one process fails, the others are ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from vzero.runtime.processes import STORE
from vzero.runtime.watchdog import watchdog_command

POLL = 0.05  # seconds


def main(count: int, command: list[str]) -> int:
    """Run `command` to its end, `count` times at once.

    Args:
        command: an absolute path and its arguments.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # by way of `finally`
    with TemporaryDirectory(prefix="vzero-launch-") as private:
        shared = {
            STORE: str(Path(private, "store")),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
        }
        started: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                environment = {**os.environ, **shared, "LOCAL_RANK": str(rank), "RANK": str(rank)}
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
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
