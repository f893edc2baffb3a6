"""What engines share: answers collected from a stream, and one kind of error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError, machine_failure
from vzero.rollout.protocol import Answer, ContextOverflow, Engine, Finished, Request, Rollout


class StreamingEngine(ABC):
    """An `Engine` that has only to stream."""

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """See `Engine.generate`."""
        return [whole(one) for one in answers(self, requests, sampling)]

    @abstractmethod
    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`."""


def answers(engine: Engine, requests: Sequence[Request], sampling: SamplingConfig) -> list[Answer]:
    """The answer to every request, in order; one that is too long is told as such and hinders no other.

    Raises:
        RolloutError: also for answers that are missing.
    """
    found: dict[int, Answer] = {}
    if requests:
        engine.stream(requests, sampling, found.__setitem__)
    if len(found) != len(requests):
        raise RolloutError(f"The engine owed {len(requests)} answers and gave {len(found)}.")
    return [found[i] for i in range(len(requests))]


def whole(answer: Answer) -> Rollout:
    """The rollout, for who cannot do without.

    Raises:
        ContextOverflow: there is none.
    """
    if isinstance(answer, ContextOverflow):
        raise answer
    return answer


@contextmanager
def as_rollout_error(what: str) -> Iterator[None]:
    """A template, an image decoder, a scheduler, a kernel: whatever fails, callers meet one kind of error; a
    full disk, on which answers are kept, stays what it is."""
    try:
        yield
    except VZeroError:
        raise
    except Exception as error:
        if failure := machine_failure(error, "the answers"):
            raise failure from error
        reason = str(error).rstrip(".")
        raise RolloutError(f"{what}: {type(error).__name__}: {reason}.") from error
