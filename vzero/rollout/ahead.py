"""Asking ahead: a Solver elsewhere answers about the first completions of a generation batch while the others are still being drawn.

With votes at servers of their own, a Questioner's generation batch then takes the longer of its rollouts and its votes and not their sum.
Every request carries its own seed, so when it is asked changes no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Engine, Message, Request, Rollout

_Key = tuple[tuple[Message, ...], int, bool]


class AskedAhead:
    """Implements `Engine` around another, whose requests may be made before their answers are wanted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="votes")  # one call at a time, in order: engines are not asked twice at once
        self._begun: list[tuple[Sequence[Request], SamplingConfig, Future[list[Rollout]]]] = []

    def begin(self, requests: Sequence[Request], sampling: SamplingConfig) -> None:
        """Let the engine answer in the background. Until the answers are taken by `generate`, nobody else may ask the engine."""
        if requests:
            self._begun.append((requests, sampling, self._pool.submit(self._engine.generate, requests, sampling)))

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """The answers begun before, and those of requests that were not; see `Engine.generate`.

        Raises:
            RolloutError: also for a request that was begun.
        """
        begun, self._begun = self._begun, []
        known: dict[_Key, Rollout] = {}
        for asked, of, future in begun:
            rollouts = future.result()
            if of == sampling:
                known |= {_key(request): rollout for request, rollout in zip(asked, rollouts, strict=True)}
        missing = [request for request in requests if _key(request) not in known]
        if missing:
            known |= {_key(request): rollout for request, rollout in zip(missing, self._engine.generate(missing, sampling), strict=True)}
        return [known[_key(request)] for request in requests]


def _key(request: Request) -> _Key:
    """A request's seed is derived from the image and the completion it is about, so the picture itself need not be compared."""
    return request.messages, request.seed, request.image is None
