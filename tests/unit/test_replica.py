"""Transformers engines that serve, against the same engine in this process: the same answers, whoever of them
gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, InterruptedRun
from vzero.rollout import Engine, Message, Request, bulk, replica, serve
from vzero.rollout.engines import open_engine
from vzero.rollout.protocol import ContextOverflow, Rollout
from vzero.rollout.replica import Replicas
from vzero.rollout.streaming import answers
from vzero.runtime import checkpoints
from vzero.runtime.progress import Progress

WORDS = tiny_model.vocabulary()
CONFIG = EngineConfig(threads=1, batch_sequences=12, retries=2)
SAMPLED = SamplingConfig(n=4, temperature=1.0, top_p=0.9, repetition_penalty=1.1, max_new_tokens=6)
GREEDY = SamplingConfig(n=3, temperature=0.0, max_new_tokens=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replica") / "checkpoint"
    checkpoints.save(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), folder)
    return folder


@contextmanager
def serving(checkpoint: Path, token: str = "t") -> Iterator[str]:
    engine, processor = open_engine(CONFIG, checkpoint), checkpoints.load_processor(checkpoint)
    handler = replica.handler_of(replica.Asked(engine), processor, "m", token)
    server = replica._Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def two(checkpoint: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(checkpoint)) for _ in range(2)]


def opened(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, urls: list[str], token: str = "t") -> Engine:
    with monkeypatch.context() as patch:
        for name, value in Replicas(str(checkpoint), urls, "m", token).variable().items():
            patch.setenv(name, value)
        return open_engine(CONFIG, checkpoint)


def request(i: int) -> Request:
    """Pictures of different sizes, one picture thrice, prompts of different lengths, some without a picture,
    some begun."""
    text = "red green " * (1 + i % 4)
    picture = None if i % 5 == 4 else tiny_model.picture(i // 3)
    messages = (Message("system", "blue"), Message("user", text))
    return Request(messages, picture, 7 * i, "red" if i % 7 == 3 else "")


def same(found: list[Rollout], expected: list[Rollout]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.prompt_tokens == other.prompt_tokens
        for a, b in zip(one.completions, other.completions, strict=True):
            assert (a.text, a.token_ids, a.finish_reason) == (b.text, b.token_ids, b.finish_reason)


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
def test_two_servers_answer_as_one_engine_here(
    checkpoint: Path, two: list[str], sampling: SamplingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(i) for i in range(24)]
    expected = open_engine(CONFIG, checkpoint).generate(requests, sampling)
    same(opened(monkeypatch, checkpoint, two).generate(requests, sampling), expected)
    assert len({one.completions for one in expected}) > 12


def test_what_a_lost_server_owed_is_asked_of_the_other(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of two stops answering after its first answer; a stage's artefact has the bytes of one engine's,
    every item once."""
    with serving(checkpoint) as sound, serving(checkpoint) as dying:
        engine = opened(monkeypatch, checkpoint, [dying, sound])
        given = threading.Event()
        real = replica.BaseHTTPRequestHandler.handle_one_request

        def one_request(self: Any) -> None:
            if self.server.server_address[1] == int(dying.rpartition(":")[2]):
                if given.is_set():
                    self.close_connection = True
                    self.connection.close()
                    return
                given.set()
            real(self)

        monkeypatch.setattr(replica.BaseHTTPRequestHandler, "handle_one_request", one_request)

        def ask(engine: Engine, name: str) -> bytes:
            bulk.ask(
                engine,
                range(24),
                request,
                SAMPLED,
                log=tmp_path / f"{name}.jsonl",
                progress=Progress(tmp_path / f"{name}.progress"),
                unit="items",
            )
            return b"\n".join(sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()))

        assert ask(engine, "served") == ask(open_engine(CONFIG, checkpoint), "alone")
        assert given.is_set()


def test_a_prompt_that_is_too_long_is_told_of_and_hinders_no_other(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Request((Message("user", "red " * 600),), None, 1)
    found = answers(opened(monkeypatch, checkpoint, two), [request(1), long, request(2)], SAMPLED)
    assert [isinstance(one, ContextOverflow) for one in found] == [False, True, False]


def test_nobody_without_the_token_is_answered(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="refuses the bearer token"):
        opened(monkeypatch, checkpoint, two, token="other")
    monkeypatch.delenv("VZERO_SOLVER_TOKEN", raising=False)
    with pytest.raises(InputError, match="bearer token"):
        serve.serve_transformers(checkpoint, serve.Place("127.0.0.1", 0), CONFIG)


def test_servers_of_another_model_are_not_asked(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The intuition of the base beside a served Solver: it is opened here."""
    for name, value in Replicas(str(tmp_path), two, "m", "t").variable().items():
        monkeypatch.setenv(name, value)
    assert type(open_engine(CONFIG, checkpoint)).__name__ == "TransformersEngine"


def test_servers_that_are_all_gone_end_the_stage_resumable(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptedRun):
        opened(monkeypatch, checkpoint, ["http://127.0.0.1:9"])
