"""One stage in several processes of this machine: `python -m harness.run.several COUNT LAUNCH_FILE PRECISION COMMAND…`.

`accelerate launch` with two things mended. Its processes lead sessions of their own, so that the end of the runner's process group would
not reach them: each is started behind a guard that ends with this process. And its exit code is 1 whatever happened: here it is the one of
the process that failed first, by which the runner tells wrong input from an interruption. When one process ends, the others are ended.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from tempfile import TemporaryDirectory

from harness.run import guard


def main(count: int, file: str, precision: str, command: list[str]) -> int:
    """Run `command` in `count` processes to its end.

    Args:
        file: of accelerate's settings.
        precision: "no", or "bf16" for autocast.
        command: an absolute path and its arguments.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)  # its reports would stand below the error of the process that failed, which is what people look for
    guarded = [sys.executable, "-I", "-S", str(guard.__file__), str(os.getpid()), *command]
    with TemporaryDirectory(prefix="vzero-launch-") as scratch:
        settings = {
            "--num_processes": str(count),
            "--config_file": file,
            "--mixed_precision": precision,
            "--main_process_port": "0",
            "--log_dir": scratch,
        }
        words = [*(word for setting in settings.items() for word in setting), "--no_python", *guarded]
        try:
            launch_command(launch_command_parser().parse_args(words))
        except ChildFailedError as error:
            return telling(failure.exitcode for failure in error.failures.values())
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def telling(codes: Iterable[int]) -> int:
    """The exit code that says most about a failure. Processes that lost a partner fail too, always with 1.

    Args:
        codes: of the processes that had ended when one had failed; negative ones are signals.
    """
    found = [code if code >= 0 else 128 - code for code in codes if code]
    killed = [code for code in found if code > 128]
    return next((code for code in (*killed, 75, 2) if code in found), found[0] if found else 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:4], command=sys.argv[4:]))
