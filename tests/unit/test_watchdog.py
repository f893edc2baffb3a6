"""The watchdog: what it says of its command, and what is left when its owner or itself is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vzero.runtime import watchdog

ROOT = Path(__file__).resolve().parents[2]
# A command with a child of its own: both write down who they are and sleep.
COMMAND = ["/bin/sh", "-c", "sleep 300 & echo $! > child; echo $$ > command; wait"]
OWNER = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from vzero.runtime.watchdog import watchdog_command
subprocess.Popen(watchdog_command({COMMAND!r}), process_group=0).wait()
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(process: int) -> bool:
    """Whether it runs; a zombie, which waits to be reaped, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def number(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


@pytest.mark.parametrize(("script", "code"), [("exit 75", 75), ("kill -9 $$", 137), ("true", 0)])
def test_the_exit_code_is_the_commands(script: str, code: int) -> None:
    command = watchdog.watchdog_command(["/bin/sh", "-c", script])
    assert subprocess.run(command, process_group=0, check=False).returncode == code


def test_all_end_with_the_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=tmp_path)
    found = [number(tmp_path / name) for name in ("command", "child")]
    assert all(map(lives, found))
    owner.kill()
    owner.wait()
    until(lambda: not any(map(lives, found)))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_the_command_ends_with_the_watchdog(tmp_path: Path) -> None:
    dog = subprocess.Popen(watchdog.watchdog_command(COMMAND), cwd=tmp_path, process_group=0)
    command, child = number(tmp_path / "command"), number(tmp_path / "child")
    dog.kill()
    dog.wait()
    until(lambda: not lives(command))
    os.kill(child, signal.SIGKILL)
