"""How an engine is asked, and what is taken of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evals.results import Limits
from harness.evals.store import StoredAnswer
from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Answer, ContextOverflow, Engine, Request

# lmms-eval puts this `until` into every task; it would end the reasoning at its first blank line.
_INJECTED = ["\n\n"]
SENT = frozenset(SamplingConfig.model_fields) - {"n"}  # lmms-eval calls n "repeats"


class Said(str):
    """The text of an answer that remembers why it ended; lmms-eval strips it and hands it on."""

    finish_reason: str | None

    def __new__(cls, text: str, finish_reason: str | None) -> Said:
        found = super().__new__(cls, text)
        found.finish_reason = finish_reason
        return found

    def strip(self, chars: str | None = None, /) -> Said:
        """See `str`."""
        return Said(super().strip(chars), self.finish_reason)


@dataclass(frozen=True)
class Asking:
    """How to ask.

    Attributes:
        limits: of the pixels shown.
        seed: of sampled answers; an item's own seed follows from it, whichever the checkpoint.
        budget: new tokens where a stock task names none, and their upper bound where `cap`.
        thoughts: tokens on top of a stock task's own budget; `budget` has them already.
    """

    limits: Limits
    seed: int
    budget: int
    cap: bool
    thoughts: int = 0

    def stock(self, kwargs: Mapping[str, Any]) -> SamplingConfig:
        """A stock task's generation arguments as ours: greedy unless it asks to sample; its own budget, or
        the run's where it has none."""
        own = int(kwargs.get("max_new_tokens") or 0)
        budget = own + self.thoughts if own else self.budget
        if self.cap:
            budget = min(budget, self.budget)
        temperature = float(kwargs.get("temperature") or 0)
        if not kwargs.get("do_sample", temperature > 0) or temperature == 0:
            return SamplingConfig(n=1, temperature=0, max_new_tokens=budget)
        top_p, top_k = float(kwargs.get("top_p") or 1), int(kwargs.get("top_k") or 0)
        return SamplingConfig(temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=budget)


def sampling_of(kwargs: Mapping[str, Any], n: int) -> SamplingConfig:
    """The sampling parameters of a task of ours, every one of them.

    Raises:
        VZeroError: one is missing, or there is one that would not be sent.
    """
    given = {key: value for key, value in kwargs.items() if key != "until"}
    if given.keys() != SENT:
        raise VZeroError(
            f"lmms-eval handed over the sampling parameters {sorted(given)}, expected {sorted(SENT)}: the "
            "task file and the model do not fit each other."
        )
    return SamplingConfig(n=n, **given)


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """A task's own stop strings, applied afterwards, since engines are not given any. The one that lmms-eval
    injects is ignored."""
    stops = [until] if isinstance(until, str) else list(until or [])
    if stops == _INJECTED:
        return text
    ends = [position for stop in stops if stop and (position := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def draw(
    engine: Engine,
    requests: Iterable[Request],
    sampling: SamplingConfig,
    finished: Callable[[int, list[StoredAnswer]], None],
) -> dict[int, ContextOverflow]:
    """All answers to each request; `finished` is told of them as they end, by the request's number.

    Returns:
        Those that are too long, by number.

    Raises:
        RolloutError: the engine gave others.
    """
    asked, told = list[int](), set[int]()
    too_long: dict[int, ContextOverflow] = {}

    def each() -> Iterator[Request]:
        for request in requests:
            asked.append(request.sampled_by(sampling).n)
            yield request

    def take(i: int, answer: Answer) -> None:
        told.add(i)
        if isinstance(answer, ContextOverflow):
            too_long[i] = answer
        elif len(answer.completions) != asked[i]:
            given = len(answer.completions)
            raise RolloutError(
                f"The engine owed {asked[i]} answers to a request and gave {given}; nothing was scored."
            )
        else:
            finished(
                i,
                [
                    StoredAnswer(text=one.text, finish_reason=one.finish_reason, tokens=len(one.token_ids))
                    for one in answer.completions
                ],
            )

    engine.stream(each(), sampling, take)
    if len(told) != len(asked):
        raise RolloutError(
            f"The engine owed answers to {len(asked)} requests and gave {len(told)}; nothing was scored."
        )
    return too_long
