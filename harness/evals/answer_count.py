"""How far an evaluation is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vzero.rollout.bulk import Speed


@dataclass
class AnswerCount:
    """Counts answers as they end, and says so about once a second.

    Attributes:
        tell: called with this count and, where some were drawn, their tokens per second.
        total: answers that the evaluation will have.
        suite: the one just asked.
        kept: answers drawn by an attempt before this one; `drawn` by this one, with their `tokens` and
            `seconds`.
    """

    tell: Callable[[AnswerCount, float | None], None]
    total: int = 0
    suite: str = ""
    kept: int = 0
    drawn: int = 0
    tokens: int = 0
    seconds: float = 0.0
    _speed: Speed = field(default_factory=Speed)

    @property
    def answers(self) -> int:
        return self.kept + self.drawn

    def add(self, suite: str, kept: int, drawn: int = 0, tokens: int = 0) -> bool:
        """Count some; whether it was said."""
        self.suite = suite
        self.kept += kept
        self.drawn += drawn
        self.tokens += tokens
        rate = self._speed.add(tokens, last=self.answers == self.total)
        if rate is not None:
            self.tell(self, rate or None)
        return rate is not None

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The time inside counts; that it begins is said."""
        self.tell(self, None)
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start
