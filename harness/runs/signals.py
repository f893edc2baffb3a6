"""Interruptions as an exception. Imports nothing heavy, so that a command can be interruptible from its first
line."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vzero.errors import InterruptedRun

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the closing of the terminal"}


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into `InterruptedRun`, also as process 1 of a container, where no
    default action exists. Once one came the program is ending: further ones change neither that nor its exit
    code."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
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
            signal.signal(number, _nothing if came else handler)
            if came:  # Python puts the default back before it has ended, unless a signal is ignored
                atexit.register(signal.signal, number, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Before the exit no SIG_IGN, which processes started from here would inherit."""


@contextmanager
def held_back() -> Iterator[None]:
    """An interruption waits for the end of the body: half a frame would break every frame after it.

    Masking the signals would not do: the kernel then asks another thread, and Python runs the handler in the
    main thread all the same.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before: dict[int, Any] = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, note)
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
        if came:
            signal.raise_signal(came[0])
