"""One engine's work by forks of this process, each with one thread and its share of the slots.

On a CPU the threads of one process wait for each other after every operation of a small model, and what is
Python's is done by one of them: two processes of one thread draw more than one of two. They share the
weights, and are made before this process starts threads. An answer is by its request's own seed, and which
fork draws it follows from its place among the requests, so the same call gives the same bits.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import torch
from torch import Tensor

from vzero import errors
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InterruptedRun, RolloutError, VZeroError
from vzero.rollout import fork_messages as messages
from vzero.rollout.protocol import PICTURE_BYTES, Answer, Engine, Finished, Request
from vzero.rollout.streaming import StreamingEngine
from vzero.runtime.watchdog import STOPS, end_with

TOGETHER = 16  # requests of an iterator that a fork is handed at a time,
_BYTES_TOGETHER = 1 << 26  # or as many as have pictures of so many bytes
_AHEAD = 8  # such batches of one that wait for it while another goes on


def count(config: EngineConfig) -> int:
    """How many processes draw by the transformers engine; one on a GPU, of which no fork can make use."""
    if torch.cuda.is_available() or sys.platform != "linux":
        return 1
    return min(config.processes, config.threads)


def forked(
    config: EngineConfig, make: Callable[[int, int], Engine], trained: Sequence[Tensor] = ()
) -> Engine:
    """What `make` makes of a number of slots and of bytes of open pictures: here, or in forks where `config`
    says so. `trained`: see `ForkedEngine`."""
    shares = count(config)
    engine = make(max(1, config.batch_sequences // shares), PICTURE_BYTES // shares)
    return engine if shares == 1 else ForkedEngine(engine, shares, trained)


@dataclass
class _Fork:
    """A fork as this process sees it; `taken`: the numbers of the requests it has been handed, in order."""

    pid: int
    pipe: Connection
    taken: list[int] = field(default_factory=list)
    code: int | None = None

    def end(self) -> int:
        """Kill it, if it lives; its exit code."""
        if self.code is None:
            self.pipe.close()
            os.kill(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


class ForkedEngine(StreamingEngine):
    """Implements `Engine`; its forks end with the thread that made them, or when nothing refers to it.

    Attributes:
        engine: the one that was forked, which can still be asked here.
    """

    def __init__(self, engine: Engine, count: int, trained: Sequence[Tensor] = ()) -> None:
        """Fork `count` times. `engine` is loaded; `trained` are those of its weights, on the CPU, that change
        here between two calls. They are sent with each call."""
        self.engine, self._trained = engine, trained
        self._forks: list[_Fork] = []
        self._end = weakref.finalize(self, _end, self._forks)
        for _ in range(count):
            self._forks.append(_fork(engine, trained))

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
        weights = b"".join(one.detach().numpy().tobytes() for one in self._trained)
        batches, busy = _Batches(requests, len(self._forks)), {fork.pipe: fork for fork in self._forks}
        for fork in self._forks:
            fork.taken.clear()
            _tell(fork, {"sampling": sampling.model_dump(), "whole": whole}, weights)
        waiting = list[_Fork]()  # they want requests
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                fork = busy[pipe]
                heard = messages.receive(pipe)
                if heard is None:
                    raise _lost(fork)
                said, data = heard
                if said["said"] == "more":
                    waiting.append(fork)
                elif said["said"] == "answer":
                    finished(fork.taken[said["number"]], messages.answer(said, data))
                elif said["said"] == "failed":
                    raise getattr(errors, said["kind"], RolloutError)(said["text"])
                else:
                    del busy[pipe]
            waiting = [fork for fork in waiting if not self._handed(fork, batches)]

    def _handed(self, fork: _Fork, batches: _Batches) -> bool:
        """Whether a fork that wants requests was told of its next ones, or that there are no more."""
        batch = batches.next(self._forks.index(fork))
        if batch is None:
            return False
        fork.taken += (number for number, _ in batch)
        _tell(fork, *messages.of_requests([one for _, one in batch]))
        return True


_Batch = list[tuple[int, Request]]  # with their numbers


class _Batches:
    """Requests dealt to forks: the k-th batch of an iterator to fork k modulo their number, of a sequence its
    share to each. Neighbours stay together: they are often about the same picture."""

    def __init__(self, requests: Iterable[Request], count: int) -> None:
        self._dealt: list[deque[_Batch]] = [deque() for _ in range(count)]
        self._rest, self._read = iter(list[_Batch]()), 0
        if isinstance(requests, Sequence):
            cuts = [len(requests) * i // count for i in range(count + 1)]
            for own, (start, end) in zip(self._dealt, pairwise(cuts), strict=True):
                own.append(list(enumerate(requests[start:end], start)))
        else:
            self._rest = _batches(requests)

    def next(self, fork: int) -> _Batch | None:
        """A fork's next batch, empty where there is none; None where it is too far ahead of the others."""
        while not self._dealt[fork]:
            if max(map(len, self._dealt)) >= _AHEAD:
                return None
            if (batch := next(self._rest, None)) is None:
                return []
            self._dealt[self._read % len(self._dealt)].append(batch)
            self._read += 1
        return self._dealt[fork].popleft()


def _batches(requests: Iterable[Request]) -> Iterator[_Batch]:
    batch, pictures = _Batch(), 0
    for numbered in enumerate(requests):
        batch.append(numbered)
        pictures += numbered[1].picture_bytes
        if len(batch) == TOGETHER or pictures >= _BYTES_TOGETHER:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def _end(forks: Sequence[_Fork]) -> None:
    for fork in forks:
        fork.end()


def _tell(fork: _Fork, said: messages.Said, data: bytes) -> None:
    try:
        messages.send(fork.pipe, said, data)
    except BrokenPipeError:
        raise _lost(fork) from None


def _lost(fork: _Fork) -> VZeroError:
    code = fork.end()
    if code == -signal.SIGKILL:
        return InterruptedRun(
            "A process that draws was ended from outside by SIGKILL, perhaps for want of memory; run the "
            "same command again to resume, with --set engine.processes=1 if it happens again."
        )
    return RolloutError(f"A process that draws ended with {code}; what it said is above.")


def _fork(engine: Engine, trained: Sequence[Tensor]) -> _Fork:
    ours, theirs = Pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    if pid := os.fork():
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Fork(pid, ours)
    code = 1
    try:
        for number in STOPS:  # the parent acts on them, and its forks end with it
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end_with(parent)
        ours.close()
        gc.freeze()  # else the collector's marks would copy every page
        torch.set_num_threads(1)  # OpenMP's others are not here
        _serve(engine, theirs, trained)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(engine: Engine, pipe: Connection, trained: Sequence[Tensor]) -> None:
    """Answer one `stream` after the other until the parent has ended."""

    def finished(number: int, answer: Answer) -> None:
        messages.send(pipe, *messages.of_answer(number, answer))

    while (call := messages.receive(pipe)) is not None:
        said, weights = call
        _take(trained, weights)
        try:
            share = partial(_share, pipe)
            requests = share() if said["whole"] else chain.from_iterable(iter(share, []))
            engine.stream(requests, SamplingConfig.model_validate(said["sampling"]), finished)
        except VZeroError as error:
            messages.send(pipe, {"said": "failed", "kind": type(error).__name__, "text": str(error)})
        else:
            messages.send(pipe, {"said": "end"})


def _share(pipe: Connection) -> list[Request]:
    """The next requests; none where there are no more."""
    messages.send(pipe, {"said": "more"})
    heard = messages.receive(pipe)
    return [] if heard is None else messages.requests(*heard)


def _take(trained: Sequence[Tensor], weights: bytes) -> None:
    """Have the weights that the parent has now."""
    data, start = bytearray(weights), 0
    with torch.no_grad():
        for one in trained:
            now = torch.frombuffer(data, dtype=one.dtype, count=one.numel(), offset=start)
            one.copy_(now.view_as(one))
            start += one.nbytes
