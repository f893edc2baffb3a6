"""Interruptions as an exception. Imports nothing heavy, so that a command can be interruptible from its first
line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vzero.errors import InterruptedRun

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the closing of the terminal"}


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into `InterruptedRun`, also as process 1 of a container, where no
    default action exists."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun(
            f"Stopped by {SIGNALS[signal.Signals(number)]}; run the same command again to resume."
        )

    # SIGHUP that is ignored was ignored on purpose (nohup), and stays so.
    wanted = [
        number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """An interruption waits for the end of the body: half a frame would break every frame after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
