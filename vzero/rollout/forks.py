"""One engine's work by forks of this process, each with its share of the CPU threads and of the slots.

On a CPU the threads of one process wait for each other after every operation of a small model, and what is
Python's is done by one of them: two processes of one thread each draw more than one of two. They share the
weights, which nobody writes, and are made before this process starts threads of Python's. Requests go to
whichever has room; an answer is by its own seed, so who draws it changes no token.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import traceback
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import torch
from PIL import Image

from vzero import errors
from vzero.config import SamplingConfig
from vzero.errors import InterruptedRun, RolloutError, VZeroError
from vzero.rollout.protocol import (
    Answer,
    Completion,
    ContextOverflow,
    Engine,
    Finished,
    Message,
    Request,
    Rollout,
)
from vzero.rollout.streaming import StreamingEngine
from vzero.runtime.watchdog import PR_SET_PDEATHSIG

TOGETHER = 16  # requests of an iterator that a fork is handed at a time,
_BYTES_TOGETHER = 1 << 26  # or as many as have pictures of so many bytes
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # this process acts on them, and its forks end with it


@dataclass
class _Fork:
    """A fork as this process sees it; `taken` are the numbers of the requests it has been handed, in order."""

    pid: int
    pipe: Connection
    taken: list[int] = field(default_factory=list)


class ForkedEngine(StreamingEngine):
    """Implements `Engine`; ends with this process, or when nothing refers to it.

    Attributes:
        engine: the one that was forked, which can still be asked here.
    """

    def __init__(self, engine: Engine, count: int, threads: int) -> None:
        """Fork `count` times. `engine` is loaded; each fork computes with `threads` threads."""
        self.engine = engine
        self._forks: list[_Fork] = []
        self._end = weakref.finalize(self, _end, self._forks)
        for _ in range(count):
            self._forks.append(_forked(engine, threads, [one.pipe for one in self._forks]))

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`. After a failure the engine cannot be asked any more.

        Raises:
            InterruptedRun: a fork was killed.
        """
        if not self._end.alive:
            raise RolloutError("The processes that draw have ended; run the same command again.")
        try:
            self._stream(requests, sampling, finished)
        except BaseException:
            self._end()
            raise

    def _stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        whole = isinstance(requests, Sequence)
        shares = _shares(requests, len(self._forks)) if whole else _batches(requests)
        number, busy = 0, {fork.pipe: fork for fork in self._forks}
        for fork in self._forks:
            fork.taken.clear()
            _send(fork.pipe, {"sampling": sampling.model_dump(), "whole": whole})
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                fork = busy[pipe]
                said, data = _receive(fork)
                match said["said"]:
                    case "more":
                        share = next(shares, [])
                        fork.taken += range(number, number := number + len(share))
                        _send(pipe, *_packed(share))
                    case "answer":
                        finished(fork.taken[said["number"]], _answer_of(said, data))
                    case "failed":
                        raise getattr(errors, said["kind"], RolloutError)(said["text"])
                    case "end":
                        del busy[pipe]


def _forked(engine: Engine, threads: int, others: Sequence[Connection]) -> _Fork:
    ours, theirs = Pipe()
    parent = os.getpid()
    if pid := os.fork():
        theirs.close()
        return _Fork(pid, ours)
    code = 1
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        gc.freeze()  # else the collector's marks would copy every page
        for one in (*others, ours):  # else it would not see that its parent has ended
            one.close()
        torch.set_num_threads(threads)
        if os.getppid() == parent:
            _serve(engine, theirs)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _end(forks: list[_Fork]) -> None:
    for fork in forks:
        fork.pipe.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(fork.pid, signal.SIGKILL)
            os.waitpid(fork.pid, 0)


def _lost(fork: _Fork) -> NoReturn:
    _, status = os.waitpid(fork.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        raise InterruptedRun(
            "A process that draws was ended from outside by SIGKILL, perhaps for want of memory; run the same "
            "command again to resume, with --set engine.processes=1 if it happens again."
        )
    raise RolloutError(f"A process that draws ended with {code}; what it said is above.")


# What a fork does.


def _serve(engine: Engine, pipe: Connection) -> None:
    """Answer one `stream` after the other until the parent has ended."""
    while (call := _heard(pipe)) is not None:
        sampling = SamplingConfig.model_validate(call[0]["sampling"])

        def finished(number: int, answer: Answer) -> None:
            _send(pipe, *_packed_answer(number, answer))

        try:
            requests = _share(pipe) if call[0]["whole"] else chain.from_iterable(iter(partial(_share, pipe), []))
            engine.stream(requests, sampling, finished)
        except VZeroError as error:
            _send(pipe, {"said": "failed", "kind": type(error).__name__, "text": str(error)})
        else:
            _send(pipe, {"said": "end"})


def _share(pipe: Connection) -> list[Request]:
    """The next requests; none where there are no more."""
    _send(pipe, {"said": "more"})
    heard = _heard(pipe)
    return [] if heard is None else _unpacked(*heard)


# What they say to each other: some JSON and some bytes.


def _send(pipe: Connection, said: Mapping[str, Any], data: bytes = b"") -> None:
    pipe.send_bytes(json.dumps(said).encode())
    pipe.send_bytes(data)


def _heard(pipe: Connection) -> tuple[dict[str, Any], bytes] | None:
    """None where the other has ended."""
    try:
        return json.loads(pipe.recv_bytes()), pipe.recv_bytes()
    except (EOFError, ConnectionResetError):
        return None


def _receive(fork: _Fork) -> tuple[dict[str, Any], bytes]:
    heard = _heard(fork.pipe)
    return _lost(fork) if heard is None else heard


def _shares(requests: Sequence[Request], count: int) -> Iterator[list[Request]]:
    """Neighbours stay together: they are often about the same picture."""
    cuts = [len(requests) * i // count for i in range(count + 1)]
    return (list(requests[start:end]) for start, end in zip(cuts, cuts[1:], strict=False))


def _batches(requests: Iterable[Request]) -> Iterator[list[Request]]:
    batch, pictures = list[Request](), 0
    for request in requests:
        batch.append(request)
        pictures += request.picture_bytes
        if len(batch) == TOGETHER or pictures >= _BYTES_TOGETHER:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def _packed(requests: Sequence[Request]) -> tuple[dict[str, Any], bytes]:
    """Requests, and the pixels of their distinct pictures in RGB, one after the other."""
    images = {id(one.image): one.image for one in requests if one.image is not None}
    pixels = [one if one.mode == "RGB" else one.convert("RGB") for one in images.values()]
    place = {key: i for i, key in enumerate(images)}
    each = [
        {
            "messages": [[turn.role, turn.text] for turn in one.messages],
            "image": place.get(id(one.image)),
            "seed": one.seed,
            "prefill": one.prefill,
            "sampling": one.sampling and one.sampling.model_dump(),
        }
        for one in requests
    ]
    return {"requests": each, "sizes": [one.size for one in pixels]}, b"".join(one.tobytes() for one in pixels)


def _unpacked(said: Mapping[str, Any], data: bytes) -> list[Request]:
    images, start = [], 0
    for width, height in said["sizes"]:
        end = start + 3 * width * height
        images.append(Image.frombytes("RGB", (width, height), data[start:end]))
        start = end
    return [
        Request(
            tuple(Message(role, text) for role, text in one["messages"]),
            None if one["image"] is None else images[one["image"]],
            one["seed"],
            one["prefill"],
            one["sampling"] and SamplingConfig.model_validate(one["sampling"]),
        )
        for one in said["requests"]
    ]


def _packed_answer(number: int, answer: Answer) -> tuple[dict[str, Any], bytes]:
    """An answer, and of all its completions the ids of tokens, then their log-probabilities."""
    said: dict[str, Any] = {"said": "answer", "number": number}
    if isinstance(answer, ContextOverflow):
        return {**said, "overflow": str(answer)}, b""
    ids, logprobs, each = array("q"), array("d"), []
    for one in answer.completions:
        ids.extend(one.token_ids)
        logprobs.extend(one.logprobs)
        each.append([one.text, len(one.token_ids), one.finish_reason, one.thought])
    data = ids.tobytes() + logprobs.tobytes()
    return {**said, "prompt_tokens": answer.prompt_tokens, "completions": each}, data


def _answer_of(said: Mapping[str, Any], data: bytes) -> Answer:
    if "overflow" in said:
        return ContextOverflow(said["overflow"])
    half, start, completions = len(data) // 2, 0, []
    ids, logprobs = array("q", data[:half]), array("d", data[half:])
    for text, count, finish_reason, thought in said["completions"]:
        taken = slice(start, start := start + count)
        completions.append(Completion(text, tuple(ids[taken]), tuple(logprobs[taken]), finish_reason, thought))
    return Rollout(said["prompt_tokens"], tuple(completions))
