"""One attempt of the campaign: a fork of this process that goes on with a run, with a fault injected on the
way or without, and what must hold of it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.victims import DIED, Seeded, die_after, install

PATIENCE = 240.0  # seconds until an attempt counts as stuck
# System calls that change what a disk holds. `?`: unknown on some architectures.
CALLS = ",".join(
    f"?{name}"
    for name in (
        *("write", "writev", "pwrite64", "ftruncate", "truncate", "fallocate", "copy_file_range", "sendfile"),
        *("fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
        *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "utimensat"),
    )
)
PR_SET_PTRACER = 0x59616D61  # by whom a process may be traced; (unsigned long) -1: by any


@dataclass(frozen=True)
class Attempt:
    """How one ended: its exit code (None: it was stuck and was ended), and what it said on stderr."""

    code: int | None
    said: str

    def fault(self, allowed: Sequence[int]) -> str | None:
        """What does not hold of it: an exit code that is not `allowed`, more than a sentence, a traceback."""
        if self.code is None:
            return "stuck"
        for mark in ("Traceback", "fault in the program"):
            if mark in self.said:
                return f"{mark}: {self.said[-1000:]}"
        if self.code not in allowed:
            return f"exit code {self.code}: {self.said[-1000:]}"
        sentences = [one for one in self.said.splitlines() if not one.startswith(("note: ", "warning: "))]
        return f"not one sentence: {self.said[-1000:]}" if len(sentences) > 1 else None


def attempt(
    act: Callable[[], int],
    engine: Seeded | None = None,
    inject: str | None = None,
    rows: int | None = None,
) -> Attempt:
    """`act` in a fork of this process.

    Args:
        rows: so many are appended to files, and then it dies.
        inject: what strace does to state-changing calls: "signal=KILL:when=7", "error=EIO:when=7+".
    """
    with TemporaryDirectory(prefix="vzero-attempt-") as place:
        said = Path(place, "stderr")
        pid = _forked(act, engine or Seeded(), said, stopped=inject is not None, rows=rows)
        tracer = None if inject is None else _traced(pid, "/dev/null", f"inject={CALLS}:{inject}")
        code = _ended(pid)
        if tracer is not None:
            tracer.wait()
        return Attempt(code, said.read_text("utf-8", "replace") if said.exists() else "")


def unprivileged(act: Callable[[], int]) -> Callable[[], int]:
    """`act` without a root's right to read what a file's mode forbids; for a fork alone."""

    def without() -> int:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2): version 3, this thread
        ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())
        return act()

    return without


def calls(act: Callable[[], int]) -> int:
    """How many state-changing calls `act` makes."""
    with TemporaryDirectory(prefix="vzero-attempt-") as place:
        pid = _forked(act, Seeded(), Path(place, "stderr"), stopped=True)
        tracer = _traced(pid, f"{place}/log", None)
        assert _ended(pid) == 0
        tracer.wait()
        return Path(place, "log").read_text("utf-8", "replace").count("\n")


@cache
def no_injection() -> str | None:
    """Why strace cannot inject faults here, None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    found = attempt(lambda: os.write(2, b"x"), inject="error=EIO:when=1")
    return None if "Input/output error" in found.said else "strace cannot trace other processes here"


def _forked(
    act: Callable[[], int], engine: Seeded, said: Path, stopped: bool, rows: int | None = None
) -> int:
    pid = os.fork()
    if pid:
        if stopped:
            os.waitpid(pid, os.WUNTRACED)
        return pid
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number, target in (
            (0, null),
            (1, null),
            (2, os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)),
        ):
            os.dup2(target, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        install(engine)
        if rows is not None:
            die_after(rows)
        if stopped:
            ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        code = act()
    except BaseException:
        with suppress(OSError):
            traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _traced(pid: int, log: str, inject: str | None) -> subprocess.Popen[bytes]:
    words = ["strace", "-qqq", "-o", log, "-e", f"trace={CALLS}", *(["-e", inject] if inject else [])]
    tracer = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text() and tracer.poll() is None:
        assert time.monotonic() < end, "strace does not attach"
        time.sleep(0.002)
    os.kill(pid, signal.SIGCONT)
    return tracer


def _ended(pid: int) -> int | None:
    """The exit code, negative for a signal; whatever the attempt started is ended with it."""
    end, code = time.monotonic() + PATIENCE, None
    while code is None and time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if code is None:
        os.waitpid(pid, 0)
    return code


KILLED = (-signal.SIGKILL, DIED)
