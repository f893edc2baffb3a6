"""Engines for tests that say themselves what is answered."""

from __future__ import annotations

from collections.abc import Iterable

from vzero.config import SamplingConfig
from vzero.rollout import Request
from vzero.rollout.protocol import Finished


class StubEngine:
    """An engine with a `generate` of its own, which answers all requests of a stream at its end."""

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        for i, answer in enumerate(self.generate(list(requests), sampling)):  # type: ignore[attr-defined]
            finished(i, answer)
