"""Asking about many things: what is kept, what is asked again, and a stage killed in the midst."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests import tiny_model
from tests.warm import Warm
from vzero.config import SamplingConfig
from vzero.rollout import Completion, Message, Request, Rollout, bulk
from vzero.rollout.protocol import Finished, overflow
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WORDS = tiny_model.vocabulary()
VOTES = SamplingConfig(n=3, max_new_tokens=40)


def request(item: int) -> Request:
    text = " ".join(WORDS[10 + (item * k) % 100] for k in range(1, 2 + item % 7))
    return Request((Message("user", text),), tiny_model.picture(item % 5), item)


def ask(
    engine: object, items: int, folder: Path, made: list[int] | None = None
) -> list[tuple[bulk.Reply, ...]]:
    def of(item: int) -> Request:
        if made is not None:
            made.append(item)
        return request(item)

    return bulk.ask(
        engine,  # type: ignore[arg-type]
        range(items),
        of,
        VOTES,
        log=folder / "log.jsonl",
        progress=Progress(folder / "progress.jsonl"),
        unit="questions",
    )


def tiny() -> TransformersEngine:
    return TransformersEngine(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), 12)


class Backwards:
    """Answers the last request first; a request in `long` exceeds its context, after `most` it dies."""

    def __init__(self, long: Iterable[int] = (), most: int = 10**9) -> None:
        self.long, self.most = set(long), most

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        for i, one in list(enumerate(requests))[::-1]:
            if not self.most:
                raise KeyboardInterrupt
            self.most -= 1
            said = Completion(f"{one.seed}", (one.seed,), (), "stop")
            finished(i, overflow(300, 40, 256) if one.seed in self.long else Rollout(3, (said,)))


def test_replies_are_in_the_order_of_the_items_whichever_ends_first(tmp_path: Path) -> None:
    replies = ask(Backwards(long=[2]), 5, tmp_path)
    assert [[one.text for one in given] for given in replies] == [["0"], ["1"], [], ["3"], ["4"]]
    assert bulk.lost(replies, None) == {"too_long": 1} and bulk.lost(replies[:2], None) == {}
    last = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["done"], last["total"], last["unit"]) == (5, 5, "questions")


def test_an_attempt_asks_what_the_one_before_it_has_no_reply_to(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Backwards(long=[6], most=3), 7, tmp_path)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"item": 3, "repl')  # torn by a kill
    made: list[int] = []
    replies = ask(Backwards(), 7, tmp_path, made)
    assert made == [0, 1, 2, 3]  # 4 to 6 were told, one of them as too long
    assert [[one.text for one in given] for given in replies] == [*([str(i)] for i in range(6)), []]
    made.clear()
    assert ask(Backwards(most=0), 7, tmp_path, made) == replies and made == []


PROGRAM = """
import sys, types
from pathlib import Path
tests = sys.modules["tests"] = types.ModuleType("tests")
tests.__path__ = [{tests!r}]
from tests.unit import test_bulk
test_bulk.ask(test_bulk.tiny(), 30, Path({folder!r}))
"""


def test_a_stage_killed_in_the_midst_loses_what_was_being_drawn_alone(warm: Warm, tmp_path: Path) -> None:
    """SIGKILL to the real engine; the replies are those of an undisturbed attempt, and no
    more requests are made again than were open."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
    expected = ask(tiny(), 30, calm)
    log, moment = killed / "log.jsonl", 8
    program = PROGRAM.format(tests=str(ROOT / "tests"), folder=str(killed))
    process = warm.start("-c", program)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= moment:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    process.communicate(300)
    assert process.returncode == -signal.SIGKILL
    before = log.read_bytes().count(b"\n")
    assert moment <= before < 30
    made: list[int] = []
    assert ask(tiny(), 30, killed, made) == expected
    assert len(made) == 30 - before
