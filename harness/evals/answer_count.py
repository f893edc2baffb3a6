"""How far an evaluation is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class AnswerCount:
    """Counts answers as batches finish, and says so.

    Attributes:
        tell: called after each batch with this count; the last batch's tokens per second, where it drew any.
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

    @property
    def answers(self) -> int:
        return self.kept + self.drawn

    def add(self, suite: str, kept: int, drawn: int = 0, tokens: int = 0, seconds: float = 0.0) -> None:
        """Count a batch."""
        self.suite = suite
        self.kept += kept
        self.drawn += drawn
        self.tokens += tokens
        self.seconds += seconds if drawn else 0.0
        self.tell(self, tokens / seconds if drawn and seconds else None)
