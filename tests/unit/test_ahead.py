"""Asking ahead: who is asked what, and when."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from tests.stub_engine import StubEngine
from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import Completion, Message, Request, Rollout
from vzero.rollout.ahead import AskedAhead

SAMPLING = SamplingConfig(n=1, max_new_tokens=4)


def request(seed: int, text: str = "how many ?") -> Request:
    return Request((Message("user", text),), None, seed)


class Waiting(StubEngine):
    """Answers with the seed of each request, when it is let."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.let = threading.Event()
        self.started = threading.Event()

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        self.calls.append([one.seed for one in requests])
        self.started.set()
        assert self.let.wait(30)
        if any(one.seed < 0 for one in requests):
            raise RolloutError("the Solver is gone")
        return [Rollout(1, (Completion(str(one.seed), (one.seed,), (0.0,), "stop"),)) for one in requests]


def texts(rollouts: list[Rollout]) -> list[str]:
    return [one.completions[0].text for one in rollouts]


def test_answers_are_given_in_the_background_and_each_request_is_made_once() -> None:
    engine = Waiting()
    ahead = AskedAhead(engine)
    ahead.begin([request(1), request(2)], SAMPLING)
    ahead.begin([], SAMPLING)
    assert engine.started.wait(30)  # the engine is at work, and this thread is not held up
    ahead.begin([request(3)], SAMPLING)
    ahead.begin([request(5)], SAMPLING)
    engine.let.set()
    assert texts(ahead.generate([request(4), request(5), request(3), request(1), request(2)], SAMPLING)) == [
        "4",
        "5",
        "3",
        "1",
        "2",
    ]
    assert engine.calls == [[1, 2], [3, 5], [4]]  # what came while it answered is asked together
    assert texts(ahead.generate([request(1)], SAMPLING)) == [
        "1"
    ]  # taken answers are gone: nothing is remembered between batches
    assert engine.calls[3:] == [[1]]


def test_other_sampling_or_another_text_is_another_request() -> None:
    engine = Waiting()
    engine.let.set()
    ahead = AskedAhead(engine)
    ahead.begin([request(1)], SAMPLING)
    ahead.generate([request(1)], SAMPLING.model_copy(update={"temperature": 0.5}))
    ahead.begin([request(1)], SAMPLING)
    ahead.generate([request(1, "which ?")], SAMPLING)
    assert engine.calls == [[1], [1], [1], [1]]


def test_what_fails_in_the_background_fails_where_the_answer_is_wanted() -> None:
    engine = Waiting()
    engine.let.set()
    ahead = AskedAhead(engine)
    ahead.begin([request(-1)], SAMPLING)
    with pytest.raises(RolloutError, match="the Solver is gone"):
        ahead.generate([request(-1), request(2)], SAMPLING)
