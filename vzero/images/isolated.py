"""Pictures decoded in a process of its own, with limits of time and memory.

A file of some kilobytes can cost a decoder minutes, gigabytes or its life. So pictures that nobody looked at
before are decoded by a child, as `decode` does it, and one that costs too much is skipped by name. The child
lives on from picture to picture; only one that had to be ended is started anew.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from PIL import Image

from vzero.errors import InterruptedRun
from vzero.images.decoding import Decode, Unusable, decode, formats
from vzero.runtime import limits

SECONDS = 15  # of processor time for one picture; a healthy one of 50 megapixels takes 3
_PIPE = 1 << 20  # bytes: the most an ordinary user may ask for; a small one costs a switch every 64 kB
_WAIT = 300.0  # seconds, should a child that is stopped or starved use no processor time
_BYTES_PER_PIXEL, _BYTES_BESIDE = 10, 128 << 20  # of memory; RGB takes 9.6, WebP 15, transparency 18


def decode_isolated(
    data: bytes, max_pixels: float, note: Callable[[str], None] = lambda _: None
) -> Image.Image:
    """`decode`, elsewhere: the same pixels, notes and reasons.

    Raises:
        Unusable: as by `decode`; or it takes too much time or memory, or its decoder crashed.
    """
    return _child(os.getpid()).decode(data, max_pixels, note)


@contextmanager
def decoders() -> Iterator[Decode]:
    """`decode_isolated` by a child for each thread that asks; they end with the body."""
    of_thread, children = threading.local(), list[_Child]()

    def decode_in_child(
        data: bytes, max_pixels: float, note: Callable[[str], None] = lambda _: None
    ) -> Image.Image:
        if not hasattr(of_thread, "child"):
            of_thread.child = _Child()
            children.append(of_thread.child)
        child: _Child = of_thread.child
        return child.decode(data, max_pixels, note)

    try:
        yield decode_in_child
    finally:
        for child in children:
            child.close()


@cache
def _child(pid: int) -> _Child:
    """The child of the process `pid`, this one: a fork shares none with its parent."""
    return _Child()


class _Lost(Exception):
    """The child was ended by somebody else, or did not start: what it should decode is not at fault."""


class _Child:
    """A process that decodes one picture at a time, and ends when its stdin does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._answered = False

    def decode(self, data: bytes, max_pixels: float, note: Callable[[str], None]) -> Image.Image:
        """See `decode_isolated`."""
        with self._lock:
            try:
                answer, pixels = self._ask(data, max_pixels)
            except _Lost:
                try:
                    answer, pixels = self._ask(data, max_pixels)
                except _Lost as error:
                    raise InterruptedRun(
                        f"The process that decodes pictures was ended twice ({error}), perhaps for want of "
                        "memory; run the same command again."
                    ) from None
        for one in answer["notes"]:
            note(one)
        if answer["unusable"] is not None:
            raise Unusable(answer["unusable"])
        return Image.frombytes("RGB", tuple(answer["size"]), pixels)

    def close(self) -> None:
        """End it, if it was started."""
        if self._popen is not None:
            self._end(self._popen)

    def _ask(self, data: bytes, max_pixels: float) -> tuple[dict[str, Any], bytes]:
        if self._popen is None:
            self._popen, self._answered = _started(), False
        stdin, stdout = self._popen.stdin, self._popen.stdout
        assert stdin is not None and stdout is not None
        try:
            asked = {"length": len(data), "max_pixels": max_pixels, "seconds": SECONDS}
            stdin.write(json.dumps(asked).encode() + b"\n" + data)
            stdin.flush()
            if not select.select([stdout], [], [], _WAIT)[0]:
                self._end(self._popen)
                raise Unusable(f"takes more than {SECONDS} s")
            answer = json.loads(stdout.readline())
            pixels = stdout.read(answer["bytes"])
            if len(pixels) < answer["bytes"]:
                raise ValueError("ended while it sent them")
            self._answered = True
            return answer, pixels
        except (ValueError, OSError):  # it was ended, by this picture or before
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(5)
            answered, code = self._answered, self._end(self._popen)
            if code == -signal.SIGKILL or (code > 0 and not answered):
                raise _Lost(f"exit code {code}") from None
            late = code == -signal.SIGXCPU
            reason = f"takes more than {SECONDS} s" if late else f"broken: its decoder crashed ({code})"
            raise Unusable(reason) from None
        except BaseException:  # one that is left in the midst of a picture is of no use
            if self._popen is not None:
                self._end(self._popen)
            raise

    def _end(self, popen: subprocess.Popen[bytes]) -> int:
        self._popen = None
        popen.kill()
        code = popen.wait()
        assert popen.stdin is not None and popen.stdout is not None
        with suppress(OSError):  # what it no longer reads
            popen.stdin.close()
        popen.stdout.close()
        return code


def _started() -> subprocess.Popen[bytes]:
    words = [sys.executable, "-P", "-m", __name__]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL  # what decoders print is hostile text
    try:
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=null, pipesize=_PIPE)
    except OSError:  # this machine grants no large pipes
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=null)


def main() -> None:
    """Decode what comes by stdin: a line that describes it, and its bytes. To stdout: a line, and pixels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and with it stdin
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    formats()
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        data = sys.stdin.buffer.read(asked["length"])
        answer, pixels = _decoded(data, asked["max_pixels"], asked["seconds"])
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)
        sys.stdout.buffer.flush()


def _decoded(data: bytes, max_pixels: float, seconds: int) -> tuple[dict[str, Any], bytes]:
    notes: list[str] = []
    memory = _BYTES_BESIDE + int(_BYTES_PER_PIXEL * max_pixels)
    limits.limit(seconds, memory)
    reason, size, pixels = None, (0, 0), b""
    try:
        image = decode(data, max_pixels, notes.append)
        size, pixels = image.size, image.tobytes()
    except Unusable as error:
        reason = str(error)
    except MemoryError:
        reason = f"too large: to decode it takes more than {memory >> 20} MB of memory"
    limits.lift_memory_limit()
    return {"notes": notes, "unusable": reason, "size": size, "bytes": len(pixels)}, pixels


if __name__ == "__main__":
    main()
