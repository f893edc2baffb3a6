"""One stage as one process group: started with a fixed environment, stopped as a whole, its failure told in
one sentence.

A training may be several processes: of this machine, which launcher.py starts, or of a cluster
(harness/cluster), whose machines each start theirs by `start_rank`.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.runs import launcher
from harness.runs.environment import environment
from harness.runs.fork_server import ForkServer
from harness.runs.launcher import shell_code
from vzero.config import Preset
from vzero.errors import NO_THREADS, InputError, InterruptedRun, VZeroError, used_up
from vzero.runtime import owned, scratch
from vzero.runtime.watchdog import watchdog_command
from vzero.selfplay import MEASUREMENTS, Stage, processes_of

GRACE = 10.0  # seconds between asking a stage to end and ending it
LOOK = 0.02  # seconds between two looks at a child
LOG_READ = 65536  # bytes of a log's end that are searched for the reason of a failure
PEAK = "peak MiB: "  # how a line of a cluster's driver begins that says what its processes took
_NO_SPACE = ("No space left on device", "Disk quota exceeded")


class Child(Protocol):
    """The leader of a stage's process group: started by this process, or forked for it."""

    pid: int

    def wait(self, seconds: float | None) -> bool:
        """Whether it has ended, after waiting for that as long as `seconds`."""
        ...

    def end(self) -> tuple[int, float]:
        """Of one that has ended, once: the exit code and the most resident memory in MiB."""
        ...


class StartedStage:
    """A stage of which this process is the parent."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen, self.pid = popen, popen.pid

    def wait(self, seconds: float | None) -> bool:
        """See `Child`."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= end:
                return False
            time.sleep(LOOK)
        return True

    def end(self) -> tuple[int, float]:
        """See `Child`."""
        _, status, usage = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        return self._popen.returncode, usage.ru_maxrss / 1024


@dataclass
class StageProcess:
    """A running stage: the process of its watchdog, where in the log this attempt begins, and whether it is
    the driver of a stage on a cluster. `noted`: up to where notes were looked for."""

    child: Child
    log: Path
    log_start: int
    driver: bool = False
    code: int | None = None
    peak_mib: float = 0.0
    noted: int = 0

    def poll(self, seconds: float = 0.0) -> int | None:
        """The exit code once the stage has ended, else None, after `seconds`; then `peak_mib` is the largest
        resident size of its processes."""
        if self.code is None and self.child.wait(seconds):
            self.code, peak = self.child.end()
            self.peak_mib = round(peak, 1)
            self.send(signal.SIGKILL)  # helpers that the stage left behind
        return self.code

    def notes(self) -> list[str]:
        """What the stage has said to its user since the last call."""
        with open(owned.open_own(self.log), "rb") as stream:
            stream.seek(max(self.noted, self.log_start))
            text = stream.read()
        whole = text.rfind(b"\n") + 1 or (len(text) if len(text) > LOG_READ else 0)
        self.noted = max(self.noted, self.log_start) + whole
        lines = text[:whole].decode("utf-8", "replace").splitlines()
        return [line.removeprefix(scratch.NOTE) for line in lines if line.startswith(scratch.NOTE)]

    def send(self, number: signal.Signals) -> None:
        """To all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)


def stop(stages: Iterable[StageProcess]) -> None:
    """End stages and everything they started, all together. A second interruption during the grace ends them
    at once."""
    alive = [stage for stage in stages if stage.code is None]
    try:
        for stage in alive:
            stage.send(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for stage in alive:
            stage.poll(max(0.0, end - time.monotonic()))
    finally:
        for stage in alive:
            stage.send(signal.SIGKILL)
        for stage in alive:
            while stage.poll(GRACE) is None:
                pass


def start(
    run: Path, preset: Preset, stage: Stage, lock: int, forks: ForkServer | None = None
) -> StageProcess:
    """Start `stage` of `run`; what it prints is appended to its log.

    Args:
        lock: descriptor of the run's lock, which the stage holds as well.
        forks: forks it where it can, to the same effect sooner; the first waits for the imports (`ready`).
    """
    log, given = run / "logs" / f"{stage.name}.log", environment(preset, stage)
    if forks is not None and is_forked(preset, stage):
        with _appending(log) as stream:
            begin = stream.tell()
            forked = forks.start(program_of(run, stage), given, stream.fileno(), lock)
            if forked is not None:
                return StageProcess(forked, log, begin)
    return _started(command_of(run, preset, stage), given, log, lock, preset.launch.cluster is not None)


def ready(preset: Preset, stage: Stage, forks: ForkServer | None) -> bool:
    """Whether `start` starts it at once."""
    return forks is None or not is_forked(preset, stage) or forks.ready(environment(preset, stage))


def is_forked(preset: Preset, stage: Stage) -> bool:
    """One process of this machine; the images' stage needs hardly any of the imports."""
    alone = processes_of(preset, stage.kind) == 1 and preset.launch.cluster is None
    return alone and stage.kind != "images"


def start_rank(
    run: Path, preset: Preset, stage: Stage, lock: int, rank: int, variables: Mapping[str, str]
) -> StageProcess:
    """Start process `rank` of `stage` here, on a machine of a cluster.

    Args:
        lock: as in `start`, of this rank.
        variables: that tell it of the others.
    """
    name = f"{stage.name}.rank-{rank}" if rank else stage.name
    given = environment(preset, stage) | dict(variables)
    program = [sys.executable, "-P", "-m", *program_of(run, stage)]
    return _started(program, given, run / "logs" / f"{name}.log", lock)


def start_command(
    words: Sequence[str], log: Path, variables: Mapping[str, str], driver: bool
) -> StageProcess:
    """Start what is no stage as if it were one, with `variables` beside ours; `driver`: it leads others on a
    cluster."""
    return _started(list(words), {**os.environ, **variables}, log, driver=driver)


def _appending(log: Path) -> BinaryIO:
    log.parent.mkdir(exist_ok=True)
    return open(owned.open_own(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def _started(
    command: list[str], given: Mapping[str, str], log: Path, lock: int | None = None, driver: bool = False
) -> StageProcess:
    with _appending(log) as stream:
        begin = stream.tell()
        popen = subprocess.Popen(
            watchdog_command(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=given,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
        )
    return StageProcess(StartedStage(popen), log, begin, driver)


def command_of(run: Path, preset: Preset, stage: Stage) -> list[str]:
    """The program of `stage`, in as many processes as the preset asks, or what starts these."""
    words = program_of(run, stage)
    program, count = [sys.executable, "-P", "-m", *words], processes_of(preset, stage.kind)
    if preset.launch.cluster is not None:
        return [sys.executable, "-P", "-m", "harness.cluster.ranks", *words[1:]]
    if count == 1:
        return program
    return [sys.executable, "-P", "-m", launcher.__name__, str(count), *program]


def program_of(run: Path, stage: Stage) -> list[str]:
    """The module of `stage` and its arguments."""
    module = "harness.evals.stage" if stage.kind in MEASUREMENTS else "vzero.stages"
    return [module, str(run.absolute()), stage.name]


def peak_mib(process: StageProcess) -> float:
    """The largest resident size of the stage's processes, wherever they were."""
    lines = _said(process) if process.driver else []
    said = [line.removeprefix(PEAK) for line in lines if line.startswith(PEAK)]
    return float(said[-1]) if said else process.peak_mib


def _said(process: StageProcess) -> list[str]:
    """The last lines of this attempt in the log."""
    with open(owned.open_own(process.log), "rb") as stream:
        stream.seek(max(process.log_start, stream.seek(0, os.SEEK_END) - LOG_READ))
        return stream.read().decode("utf-8", "replace").splitlines()


def failure(name: str, code: int, process: StageProcess) -> VZeroError:
    """Why the stage `name` ended with `code`, as the error to show: its own `error:` sentence where it
    printed one."""
    lines, where, folder = _said(process), f"(log: {process.log})", process.log.parent
    if any(mark in line for line in lines for mark in _NO_SPACE) or shutil.disk_usage(folder).free < 4096:
        return InterruptedRun(
            f"No space left on the disk of {folder.parent} during {name}; free some, then run the same "
            f"command again {where}."
        )
    if any(mark in line for line in lines for mark in NO_THREADS):
        return used_up()
    if (killed := shell_code(code) - 128) > 0:
        what = signal.Signals(killed).name if killed in set(signal.Signals) else str(killed)
        if killed in (signal.SIGKILL, signal.SIGTERM):
            return InterruptedRun(
                f"Stage {name} was ended from outside by {what}, perhaps for want of memory; "
                f"run the same command again to resume {where}."
            )
        return VZeroError(f"Stage {name} crashed with {what} {where}.")
    said = next(
        (line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None
    )
    if process.driver and said is None:  # its own failures have a sentence: Ray has ended it
        return InterruptedRun(
            f"The cluster was lost during {name}; run the same command again to resume {where}."
        )
    kind = {2: InputError, 75: InterruptedRun}.get(code, VZeroError)
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    if said is None:
        return kind(f"Stage {name} failed: {last} {where}")
    return kind(said if "(log: " in said else f"{said} {where}")
