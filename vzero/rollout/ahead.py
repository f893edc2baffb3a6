"""Asking ahead: a Solver elsewhere votes on the first questions of a generation batch while the others are
still being drawn.

With votes at servers of their own, a Questioner's generation batch then takes the longer of its rollouts and
its votes and not their sum. Every request carries its own seed, so when it is asked changes no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Engine, Message, Request, Rollout

_Key = tuple[tuple[Message, ...], int, bool, SamplingConfig]


class AskedAhead:
    """Implements `Engine` around another, whose requests may be made before their answers are wanted.

    The other is asked by one call at a time; what is prefill while it answers is put to it together in the
    next call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="votes")
        self._lock = Lock()
        self._waiting: list[tuple[Request, SamplingConfig]] = []
        self._known: dict[_Key, Rollout] = {}
        self._calls: list[Future[None]] = []

    def begin(self, requests: Sequence[Request], sampling: SamplingConfig) -> None:
        """Let the engine answer in the background."""
        if requests:
            with self._lock:
                self._waiting += [(request, sampling) for request in requests]
            self._calls.append(self._pool.submit(self._answer_waiting))

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """The answers to `requests`, those prefill before and the others; see `Engine.generate`. What was
        prefill and is not wanted is dropped.

        Raises:
            RolloutError: also for a request that was prefill.
        """
        calls, self._calls = self._calls, []
        for call in calls:
            call.result()
        known, self._known = self._known, {}
        missing = [request for request in requests if _key(request, sampling) not in known]
        if missing:
            answers = self._engine.generate(missing, sampling)
            known |= {
                _key(request, sampling): rollout for request, rollout in zip(missing, answers, strict=True)
            }
        return [known[_key(request, sampling)] for request in requests]

    def _answer_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for sampling in dict.fromkeys(sampling for _, sampling in waiting):
            asked = [request for request, of in waiting if of == sampling]
            answers = self._engine.generate(asked, sampling)
            self._known |= {
                _key(request, sampling): rollout for request, rollout in zip(asked, answers, strict=True)
            }


def _key(request: Request, sampling: SamplingConfig) -> _Key:
    """A request's seed is derived from the image and the completion it is about, so the picture itself need
    not be compared."""
    return request.messages, request.seed, request.image is None, sampling
