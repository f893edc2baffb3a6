"""What engines in this process share: answers handed on as they end, and one kind of error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Finished, Request, Rollout


class StreamingEngine(ABC):
    """An `Engine` that tells of each request when the last of its completions has ended."""

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order; see `Engine.generate`."""
        return self.stream(requests, sampling, lambda i, rollout: None)

    @abstractmethod
    def stream(
        self, requests: Sequence[Request], sampling: SamplingConfig, finished: Finished
    ) -> list[Rollout]:
        """As `generate`; `finished` is told of each request, by its number, as it ends.

        Raises:
            RolloutError: also for what `finished` raises.
        """


@contextmanager
def as_rollout_error(what: str) -> Iterator[None]:
    """A template, an image decoder, a scheduler, a kernel: whatever fails, callers meet one kind of error."""
    try:
        yield
    except VZeroError:
        raise
    except Exception as error:
        reason = str(error).rstrip(".")
        raise RolloutError(f"{what}: {type(error).__name__}: {reason}.") from error
