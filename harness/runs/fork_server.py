"""One process that has imported what stages need, and forks itself for each: `python -m
harness.runs.fork_server SOCKET MODULE…`.

Importing torch, transformers, TRL and lmms-eval takes longer than most stages of a small model. A forked
stage has its own process group, log and watchdog like one that was started anew (see supervise.py), and ends
with the server, which ends with its runner. Nothing but imports is done before the fork: no thread of
Python's or OpenMP's runs, and no number is drawn.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vzero.runtime.watchdog import guard

MODULES = (
    "vzero.questioner",
    "vzero.solver",
    "vzero.grpo.train",
    "vzero.rollout.transformers_engine",
    "harness.evals.model",
    "lmms_eval.evaluator",
)
DRIVERS = ("/dev/nvidiactl", "/dev/kfd")  # a process that has asked CUDA or ROCm anything must not fork
MESSAGE = 65536  # bytes


def can_fork() -> bool:
    """Whether stages are forked on this machine."""
    return sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS)


@dataclass
class ForkedStage:
    """A running stage as its runner sees it: the leader of its group, and where its end is told."""

    pid: int
    told: socket.socket

    def wait(self, seconds: float | None) -> bool:
        """Whether it has ended, after waiting for that as long as `seconds`."""
        return bool(select.select([self.told], [], [], seconds)[0])

    def end(self) -> tuple[int, float]:
        """Of one that has ended, once: the exit code and the most resident memory in MiB. One that was killed
        together with its watchdog could not say."""
        data = self.told.recv(MESSAGE)
        self.told.close()
        code, kibibytes = json.loads(data) if data else (-signal.SIGKILL, 0)
        return code, kibibytes / 1024


class ForkServer:
    """Started when it is first needed, with the environment of its stages, and anew for another one; ended by
    `close`. `modules` are imported before the first fork."""

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        self._modules = tuple(modules)
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._imported = False
        self._stages: list[ForkedStage] = []

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Begin to import, unless this is done; nothing where no process can be forked."""
        if not can_fork():
            return
        if self._process is not None and (self._environment == environment or self._alive()):
            return
        self.close()
        self._imported = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), *self._modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._environment = dict(environment)

    def ready(self, environment: Mapping[str, str]) -> bool:
        """Whether `start` need not wait: all is imported, or nothing can be forked here."""
        self.prepare(environment)
        if self._socket is not None and not self._imported and select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(MESSAGE)
            self._imported = True
        return self._socket is None or self._imported

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], log: int, lock: int
    ) -> ForkedStage | None:
        """Run the module and arguments `words` in a fork.

        Args:
            log: descriptor that it writes to.
            lock: descriptor that it holds as long as it lives.

        Returns:
            None where nothing was started: there is no server here, it has died, or a stage of it is alive
            that has another environment.
        """
        self.prepare(environment)
        if self._socket is None or self._environment != environment:
            return None
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, suppress(ConnectionError):
            socket.send_fds(self._socket, [json.dumps(words).encode()], [log, lock, theirs.fileno()])
        pid = told.recv(MESSAGE)
        if not pid:
            told.close()
            self.close()
            return None
        self._stages = [*self._alive(), ForkedStage(int(pid), told)]
        return self._stages[-1]

    def run(self, words: Sequence[str], lock: int) -> bool:
        """Run the module and arguments `words` to their end, in a fork with the environment of the stages
        before; whether that was done. False, also, where nothing was forked before: who asks does it
        himself then. `lock`: as of `start`. An interruption ends the fork too."""
        if not self._environment:
            return False
        with open(os.devnull, "wb") as nowhere:
            fork = self.start(words, self._environment, nowhere.fileno(), lock)
        if fork is None:
            return False
        try:
            return fork.wait(None) and fork.end()[0] == 0
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(fork.pid, signal.SIGKILL)
            raise

    def _alive(self) -> list[ForkedStage]:
        return [stage for stage in self._stages if stage.told.fileno() >= 0]

    def close(self) -> None:
        """End the server; its stages end with it."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None


def serve(server: socket.socket, modules: Sequence[str]) -> Callable[[], None] | None:
    """Import `modules`, then fork for each request until the runner is gone.

    Returns:
        In a fork, what it is to do; None in the server itself.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork: it tells its end itself
    gc.disable()  # it took a quarter of the imports, and leaves holes that the forks would copy
    for name in modules:
        with suppress(Exception):  # a stage that needs it fails by it, and says so in its log
            importlib.import_module(name)
    gc.freeze()  # else the collector's marks would copy every page in each fork
    owner = os.getpid()
    with suppress(ConnectionError):
        server.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(server, MESSAGE, 3)
        if not message:
            return None
        if os.fork() == 0:
            gc.enable()
            server.close()
            return lambda: _stage(owner, json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _stage(owner: int, words: list[str], log: int, lock: int, told: int) -> None:
    """Lead a group, run the stage in it and tell its end; the stage itself leaves by `SystemExit`."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    with socket.socket(fileno=told) as runner:
        runner.send(str(os.getpid()).encode())
        code = guard(owner, lambda: _run(words, runner))
        runner.send(json.dumps((code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)).encode())
    os._exit(0)


def _run(words: list[str], runner: socket.socket) -> None:
    runner.close()
    with suppress(OSError):  # for who looks at the machine's processes
        Path("/proc/self/comm").write_text(words[-1][:15])
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if isinstance(left.code, int):
            _leave(left.code)
        raise
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End as the interpreter would (threads, exit handlers, what is left to be written) but for taking all
    modules apart, which took .3 s after torch; as `multiprocessing` ends its children."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        task = serve(requests, sys.argv[2:])
    if task is not None:
        task()
