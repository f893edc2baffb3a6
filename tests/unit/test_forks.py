"""Forks that draw: their answers are those of the engine that was forked, each draws, and none outlives or
misleads the process that asks."""

from __future__ import annotations

import copy
import gc
import os
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, InterruptedRun, RolloutError
from vzero.rollout import ContextOverflow, Message, Request, fork_messages, forks
from vzero.rollout.forks import ForkedEngine
from vzero.rollout.protocol import PICTURE_BYTES, Answer, Completion, Finished, Rollout
from vzero.rollout.streaming import StreamingEngine, answers
from vzero.rollout.transformers_engine import TransformersEngine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone"),
]
WORDS = tiny_model.vocabulary()
VOTES = SamplingConfig(n=3, temperature=1.0, max_new_tokens=8)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=5)
ROOT = Path(__file__).resolve().parents[2]


def request(seed: int, image: int | None = 0, words: int = 4, **others: Any) -> Request:
    text = " ".join(WORDS[10 + (7 * seed + i) % (len(WORDS) - 10)] for i in range(words))
    shown = None if image is None else tiny_model.picture(image)
    return Request((Message("system", "solve"), Message("user", text)), shown, seed, **others)


def several() -> list[Request]:
    """A shared picture, none, one in grey, a prefill, a sampling of its own, and one that is too long."""
    shared = tiny_model.picture(3)
    return [
        *(replace(request(i), image=shared) for i in range(5)),
        request(1 << 63, image=None),
        replace(request(7), image=tiny_model.picture(4).convert("L")),
        request(8, prefill=WORDS[12]),
        request(9, sampling=GREEDY),
        request(10, words=2000),
        *(request(i, image=i % 3) for i in range(11, 40)),
    ]


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), 12)


def told_of(engine: Any, requests: Iterable[Request], sampling: SamplingConfig = VOTES) -> dict[int, Answer]:
    told: dict[int, Answer] = {}
    engine.stream(requests, sampling, told.__setitem__)
    return told


def same(one: Answer, other: Answer) -> bool:
    """Probabilities may differ in their last bits: others stood beside it."""
    if isinstance(one, ContextOverflow) or isinstance(other, ContextOverflow):
        return type(one) is type(other) and str(one) == str(other)
    bare = [replace(whole, logprobs=()) for rollout in (one, other) for whole in rollout.completions]
    values = [[v for whole in rollout.completions for v in whole.logprobs] for rollout in (one, other)]
    half = len(bare) // 2
    return bare[:half] == bare[half:] and values[0] == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize("shape", [list, iter])
def test_answers_are_those_of_the_engine(
    engine: TransformersEngine, shape: Callable[[list[Request]], Iterable[Request]]
) -> None:
    alone, both = told_of(engine, several()), ForkedEngine(engine, 2)
    for _ in range(2):  # they live on from call to call
        found = told_of(both, shape(several()))
        assert found.keys() == alone.keys() == set(range(len(several())))
        assert all(same(found[i], alone[i]) for i in found)
    assert isinstance(found[9], ContextOverflow)
    rollout = found[8]
    assert isinstance(rollout, Rollout) and len(rollout.completions) == 1
    assert len(rollout.completions[0].token_ids) <= 5 and rollout.completions[0].logprobs[0] == 0
    assert told_of(both, shape([])) == {}


class Telling(StreamingEngine):
    """Says which process answers; what else it does, the first words of a request say."""

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        for i, one in enumerate(requests):
            said = one.messages[0].text
            if said == "wrong":
                raise InputError("This is of no use; take another.")
            if said == "broken":
                raise ZeroDivisionError
            if said == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            kind = "list" if isinstance(requests, list) else "stream"
            finished(i, Rollout(0, (Completion(f"{os.getpid()} {kind}", (), (), "stop"),)))


def saying(*words: str) -> list[Request]:
    return [Request((Message("user", word),), None, 0) for word in words]


def alive(pids: Iterable[int]) -> set[int]:
    """Those that are; nobody may have waited for one that has ended."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(pid)
    return found


def ends(pids: Iterable[int]) -> bool:
    deadline = time.monotonic() + 30
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pids)


def by(found: dict[int, Answer]) -> list[tuple[int, str]]:
    texts = [one.completions[0].text.split() for _, one in sorted(found.items()) if isinstance(one, Rollout)]
    return [(int(pid), kind) for pid, kind in texts]


def test_each_has_a_share_and_neighbours_stay_together() -> None:
    both = ForkedEngine(Telling(), 2)
    whole = by(told_of(both, saying(*"abcdefg")))
    first, last = whole[0][0], whole[-1][0]
    assert len({first, last, os.getpid()}) == 3
    assert [pid for pid, _ in whole] in ([first] * 3 + [last] * 4, [first] * 4 + [last] * 3)
    assert {kind for _, kind in whole} == {"list"}

    read: list[int] = []

    def slowly() -> Iterator[Request]:
        for i, one in enumerate(saying(*"x" * 5 * forks.TOGETHER)):
            read.append(i)
            yield one

    streamed = by(told_of(both, slowly()))
    assert len(streamed) == 5 * forks.TOGETHER == len(read) == 80 and {kind for _, kind in streamed} == {
        "stream"
    }
    batches = [set(streamed[start : start + forks.TOGETHER]) for start in range(0, 80, forks.TOGETHER)]
    assert [len(batch) for batch in batches] == [1] * 5
    assert batches[0] == batches[2] == batches[4] != batches[1] == batches[3]  # not by who is faster


def test_none_is_far_ahead_of_the_others() -> None:
    read: list[int] = []

    def requests() -> Iterator[Request]:
        for i, one in enumerate(saying(*"x" * 100 * forks.TOGETHER)):
            read.append(i)
            yield one

    dealt, taken = forks._Batches(requests(), 2), 0
    while dealt.next(0) is not None:
        taken += 1
    assert taken == forks._AHEAD and len(read) <= (2 * forks._AHEAD + 1) * forks.TOGETHER
    assert [number for number, _ in dealt.next(1) or []] == list(range(forks.TOGETHER, 2 * forks.TOGETHER))
    numbers = [number for number, _ in dealt.next(0) or []]
    assert numbers == list(range(2 * taken * forks.TOGETHER, (2 * taken + 1) * forks.TOGETHER))


def test_pictures_are_handed_out_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [replace(one, image=Image.new("RGB", (10, 10))) for one in saying(*"abcdefgh")]
    monkeypatch.setattr(forks, "_BYTES_TOGETHER", 900)
    assert [[i for i, _ in batch] for batch in forks._batches(iter(requests))] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7],
    ]


@pytest.mark.parametrize(
    ("word", "kind", "match"),
    [
        ("wrong", InputError, "take another"),
        ("broken", RolloutError, "ended with 1"),
        ("killed", InterruptedRun, "engine.processes=1"),
    ],
)
def test_what_a_fork_meets_is_said_here_and_all_end(
    word: str, kind: type[Exception], match: str, capfd: pytest.CaptureFixture[str]
) -> None:
    both = ForkedEngine(Telling(), 2)
    pids = [one.pid for one in both._forks]
    with pytest.raises(kind, match=match):
        told_of(both, saying("fine", "fine", "fine", word))
    assert not alive(pids)
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (word == "broken")
    with pytest.raises(RolloutError, match="have ended"):
        told_of(both, saying("fine"))


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_was_killed_between_two_calls_is_said_as_one_that_is_killed_in_a_call(which: int) -> None:
    both = ForkedEngine(Telling(), 2)
    pids = [one.pid for one in both._forks]
    told_of(both, saying(*"abcd"))
    os.kill(pids[which], signal.SIGKILL)
    assert ends([pids[which]])
    with pytest.raises(InterruptedRun, match=r"engine\.processes=1"):
        told_of(both, saying(*"abcd"))
    assert not alive(pids)


def test_what_fails_here_ends_them() -> None:
    def requests() -> Iterator[Request]:
        yield from saying("fine")
        raise InputError("This picture is gone.")

    def finished(number: int, answer: Answer) -> None:
        raise KeyboardInterrupt

    for source, told, kind in (
        (requests(), lambda i, answer: None, InputError),
        (saying("fine"), finished, KeyboardInterrupt),
    ):
        both = ForkedEngine(Telling(), 2)
        pids = [one.pid for one in both._forks]
        with pytest.raises(kind):
            both.stream(source, VOTES, told)
        assert not alive(pids)


def test_they_end_with_the_engine_and_an_interruption_is_not_theirs() -> None:
    both = ForkedEngine(Telling(), 2)
    pids = [one.pid for one in both._forks]
    for pid in pids:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert {pid for pid, _ in by(told_of(both, saying(*"abcd")))} == set(pids)
    del both
    gc.collect()
    assert not alive(pids)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_the_process_in_the_midst_of_drawing(how: signal.Signals) -> None:
    program = (
        "import os, sys, time\n"
        "from vzero.config import SamplingConfig\n"
        "from vzero.rollout import Message, Request\n"
        "from vzero.rollout.forks import ForkedEngine\n"
        "from vzero.rollout.streaming import StreamingEngine\n"
        "class Slow(StreamingEngine):\n"
        "    def stream(self, requests, sampling, finished):\n"
        "        os.write(1, b'%d\\n' % os.getpid())\n"
        "        time.sleep(300)\n"
        "one = Request((Message('user', 'a'),), None, 0)\n"
        "ForkedEngine(Slow(), 2).stream([one, one], SamplingConfig(max_new_tokens=1), print)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    pids = [int(child.stdout.readline()) for _ in range(2)]
    assert alive(pids) == set(pids)
    child.send_signal(how)
    child.wait(30)
    assert ends(pids)


def test_weights_that_are_trained_here_are_those_that_draw(engine: TransformersEngine) -> None:
    model = copy.deepcopy(engine.model)
    mine = TransformersEngine(model, engine.processor, 12)
    trained = [one for name, one in model.named_parameters() if "visual" not in name]
    both = ForkedEngine(mine, 2, trained)
    requests = [request(i) for i in range(6)]
    before = told_of(both, requests)
    with torch.no_grad():
        for one in trained:
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(0)) * one.std())
    after, here = told_of(both, requests), told_of(mine, requests)
    assert all(same(after[i], here[i]) for i in here)
    assert not any(same(after[i], before[i]) for i in here)


def test_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**config: Any) -> tuple[int, ...]:
        shares: list[int] = []
        built = forks.forked(EngineConfig(**config), lambda *most: shares.extend(most) or Telling())
        return (len(built._forks) if isinstance(built, ForkedEngine) else 1, *shares)

    assert made() == (1, 1280, PICTURE_BYTES)
    assert made(processes=2, threads=2, batch_sequences=100) == (2, 50, PICTURE_BYTES // 2)
    assert made(processes=4, threads=3, batch_sequences=2) == (3, 1, PICTURE_BYTES // 3)
    assert made(processes=4, threads=1, batch_sequences=8)[:2] == (1, 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert made(processes=2, threads=2)[0] == 1


text = st.text(max_size=20) | st.text(alphabet=string.printable + "\ud800\u2028\x00", max_size=9)
samplings = st.builds(
    SamplingConfig,
    n=st.integers(1, 9),
    temperature=st.sampled_from([0.0, 0.1, 1.0]),
    top_p=st.floats(0.01, 1),
    max_new_tokens=st.integers(1, 99),
)
pictures = st.builds(
    lambda mode, size, seed: Image.frombytes(
        mode, size, bytes(seed + i & 255 for i in range(size[0] * size[1] * len(mode)))
    ),
    st.sampled_from(["L", "RGB", "RGBA"]),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(0, 255),
)


@settings(deadline=None)
@given(st.data())
def test_what_is_said_arrives(data: st.DataObject) -> None:
    shared = data.draw(st.lists(pictures, max_size=3))
    asked = data.draw(
        st.lists(
            st.builds(
                Request,
                st.lists(
                    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text), max_size=3
                ).map(tuple),
                st.sampled_from([None, *shared]),
                st.integers(0, (1 << 64) - 1),
                text,
                st.none() | samplings,
            ),
            max_size=5,
        )
    )
    tokens = st.lists(st.tuples(st.integers(0, 1 << 40), st.floats(-1e30, 0)), max_size=4)
    completions = st.builds(
        lambda said, drawn, end, thought: Completion(
            said, tuple(t for t, _ in drawn), tuple(p for _, p in drawn), end, thought
        ),
        text,
        tokens,
        st.sampled_from(["stop", "length"]),
        text,
    )
    rollouts = st.builds(Rollout, st.integers(0, 9999), st.lists(completions, max_size=4).map(tuple))
    answer = data.draw(rollouts | text.map(ContextOverflow))
    ours, theirs = Pipe()
    with ours, theirs:
        fork_messages.send(ours, *fork_messages.of_requests(asked))
        heard = fork_messages.receive(theirs)
        assert heard is not None
        found = fork_messages.requests(*heard)
        fork_messages.send(theirs, *fork_messages.of_answer(3, answer))
        back = fork_messages.receive(ours)
        assert back is not None and back[0]["number"] == 3
    for one, other in zip(asked, found, strict=True):
        assert replace(one, image=None) == replace(other, image=None)
        assert (one.image is None) == (other.image is None)
        if one.image is not None and other.image is not None:
            assert other.image.mode == "RGB" and other.image.size == one.image.size
            assert other.image.tobytes() == one.image.convert("RGB").tobytes()
    for first, second in pairwise(zip(asked, found, strict=True)):
        if first[0].image is not None and second[0].image is not None:  # a shared picture stays one
            assert (first[0].image is second[0].image) == (first[1].image is second[1].image)
    arrived = fork_messages.answer(*back)
    assert str(arrived) == str(answer) if isinstance(answer, ContextOverflow) else arrived == answer


def test_the_preset_says_how_many_and_every_role_draws_by_them() -> None:
    """`answers` of the engine that a stage opens for a checkpoint come from processes of its own."""
    from vzero.rollout.engines import open_engine
    from vzero.runtime.checkpoints import POCKET

    engine = open_engine(EngineConfig(processes=2), POCKET)
    assert isinstance(engine, ForkedEngine) and len(engine._forks) == 2
    (rollout,) = answers(engine, [request(1, image=None)], GREEDY)
    assert isinstance(rollout, Rollout)
