"""A program on a terminal of a given size, and what stands there: enough of one for what Rich writes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|\x1b[=>]")


@dataclass
class Screen:
    """Lines as they stand, those that scrolled away included. `wrapped`: those longer than `width` that had a
    blank to break at; a path of one long word has none."""

    width: int
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0

    def write(self, text: str) -> None:
        """Take what a program printed."""
        start = 0
        while start < len(text):
            match = _CONTROL.match(text, start)
            if match:
                self._control(match[1] or "", match[2] or "")
            else:
                self._put(text[start])
            start = match.end() if match else start + 1

    def _put(self, one: str) -> None:
        if one == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        elif one == "\r":
            self.column = 0
        elif one >= " ":
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1
            shown = self.lines[self.row]
            if self.column > self.width and len(shown.split()) > 1 and shown not in self.wrapped:
                self.wrapped.append(shown)

    def _control(self, numbers: str, what: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if what == "A":
            self.row = max(0, self.row - count)
        elif what == "K" and count == 2:
            self.lines[self.row] = ""


def on_terminal(
    command: Sequence[str],
    width: int,
    environment: Mapping[str, str],
    place: Path,
    stop: Callable[[str], bool] = lambda shown: False,
    seconds: float = 1500.0,
) -> tuple[int, Screen, list[tuple[float, str]]]:
    """The exit code of `command` on a terminal of 24 lines, what stands there at the end, and what it wrote,
    with the seconds since it began; Ctrl-C is typed once `stop` says so of all that was written."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        command,
        cwd=place,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**kept, "TERM": "xterm-256color", **environment},
        start_new_session=True,
    )
    os.close(follower)
    begin, written, raw, stopped = time.monotonic(), [], b"", False
    while time.monotonic() - begin < seconds:
        if select.select([leader], [], [], 0.5)[0]:
            try:
                raw += os.read(leader, 65536)
            except OSError:  # the other side is closed
                break
            text = raw.decode("utf-8", "ignore")
            raw = b"" if text.encode() == raw else raw[len(text.encode()) :]
            written.append((time.monotonic() - begin, text))
            if not stopped and stop("".join(one for _, one in written[-40:])):
                stopped = True
                process.send_signal(signal.SIGINT)
        elif process.poll() is not None:
            break
    if process.poll() is None and time.monotonic() - begin >= seconds:
        process.kill()
    os.close(leader)
    screen = Screen(width)
    screen.write("".join(text for _, text in written))
    return process.wait(), screen, written
