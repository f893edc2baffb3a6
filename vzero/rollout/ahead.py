"""Asking ahead: a Solver elsewhere votes on the first questions of a generation batch while the others are
still being drawn.

With votes at servers of their own, a Questioner's generation batch then takes the longer of its rollouts and
its votes and not their sum. Every request carries its own seed, so when it is asked changes no answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Answer, Engine, Finished, Message, Request
from vzero.rollout.streaming import StreamingEngine, answers

_Key = tuple[tuple[Message, ...], int, bool, SamplingConfig]


class AskedAhead(StreamingEngine):
    """Implements `Engine` around another, whose requests may be made before their answers are wanted.

    The other is asked by one call at a time; what is asked ahead while it answers is put to it together in
    the next call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="votes")
        self._waiting: deque[tuple[Request, SamplingConfig]] = deque()
        self._known: dict[_Key, Answer] = {}
        self._calls: list[Future[None]] = []

    def begin(self, requests: Sequence[Request], sampling: SamplingConfig) -> None:
        """Let the engine answer in the background."""
        if requests:
            self._waiting.extend((request, sampling) for request in requests)
            self._calls.append(self._pool.submit(self._answer_waiting))

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`; all is told at the end. What was asked ahead and is not wanted is dropped.

        Raises:
            RolloutError: also for a request that was asked ahead.
        """
        calls, self._calls = self._calls, []
        for call in calls:
            call.result()
        known, self._known = self._known, {}
        wanted = list(requests)
        known |= self._ask([one for one in wanted if _key(one, sampling) not in known], sampling)
        for i, request in enumerate(wanted):
            finished(i, known[_key(request, sampling)])

    def _answer_waiting(self) -> None:
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for sampling in dict.fromkeys(sampling for _, sampling in waiting):
            self._known |= self._ask([request for request, of in waiting if of == sampling], sampling)

    def _ask(self, requests: Sequence[Request], sampling: SamplingConfig) -> dict[_Key, Answer]:
        found = answers(self._engine, requests, sampling)
        return {_key(request, sampling): one for request, one in zip(requests, found, strict=True)}


def _key(request: Request, sampling: SamplingConfig) -> _Key:
    """A request's seed is derived from the image and the completion it is about, so the picture itself need
    not be compared."""
    return request.messages, request.seed, request.image is None, request.sampled_by(sampling)
