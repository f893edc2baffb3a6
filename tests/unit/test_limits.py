"""Work tried in a fork: what counts as ended, and that nothing counts so for want of limits."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable

import pytest

from vzero.runtime import limits


def _raises() -> None:
    raise ValueError("no")


def _spins() -> None:
    while True:
        pass


def _waits() -> None:
    threading.Event().wait()


def _leaves() -> None:
    raise SystemExit(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "ended"),
    [
        (lambda: None, True),
        (_raises, True),
        (_spins, False),
        (_waits, False),
        (lambda: bytearray(1 << 30), False),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), False),
        (_leaves, False),
    ],
)
def test_what_ends_within_its_limits(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], ended: bool
) -> None:
    if work is _waits:
        monkeypatch.setattr(limits, "_CLOCK", 2)
    assert limits.ends(work, 1, 1 << 28) is ended


def test_without_limits_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuses)
    with pytest.raises(OSError, match="does not let a process limit"):
        limits.ends(lambda: None, 1, 1 << 28)
