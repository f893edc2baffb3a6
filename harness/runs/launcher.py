"""One node's processes of a stage: `python -m harness.runs.launcher COUNT NODES RANK ADDRESS PORT PRECISION
COMMAND…`.

`accelerate launch` with two faults fixed. Its processes lead sessions of their own, so that the end of the
runner's process group would not reach them: each is started behind a watchdog that ends with this process.
And its exit code is 1 whatever happened: here it is the one of the process that failed first, by which the
runner tells wrong input from an interruption. When one process ends, the others are ended.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vzero.runtime.watchdog import watchdog_command

SETTINGS = Path(__file__).resolve().with_name("ddp.yaml")  # of accelerate


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of all nodes meet: `address` and `port` of node 0. On one node a free port (0) of
    its own is found."""

    nodes: int = 1
    rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0


ONE_NODE = Rendezvous()


def main(count: int, rendezvous: Rendezvous, precision: str, command: list[str]) -> int:
    """Run this node's part of `command` to its end.

    Args:
        count: of processes, on all nodes.
        precision: "no", or "bf16" for autocast.
        command: an absolute path and its arguments.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Its reports would stand below the error of the process that failed, which is what people look for.
    logging.disable(logging.CRITICAL)
    with TemporaryDirectory(prefix="vzero-launch-") as scratch:
        settings = {
            "--num_processes": str(count),
            "--config_file": str(SETTINGS),
            "--mixed_precision": precision,
            "--main_process_port": str(rendezvous.port),
            "--log_dir": scratch,
        }
        if rendezvous.nodes > 1:
            settings |= {
                "--num_machines": str(rendezvous.nodes),
                "--machine_rank": str(rendezvous.rank),
                "--main_process_ip": rendezvous.address,
            }
        words = [word for setting in settings.items() for word in setting]
        try:
            launch_command(
                launch_command_parser().parse_args([*words, "--no_python", *watchdog_command(command)])
            )
        except ChildFailedError as error:
            return root_cause(failure.exitcode for failure in error.failures.values())
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


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
    sys.exit(main(int(sys.argv[1]), where, sys.argv[6], sys.argv[7:]))
